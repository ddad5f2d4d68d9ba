from . import plot as plot
from .records import load_results as load_results
from .report.notebook_table import table as table
from .training_curve import load_curves as load_curves

__version__: str
