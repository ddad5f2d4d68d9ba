from .records import load_results as load_results

__version__: str
