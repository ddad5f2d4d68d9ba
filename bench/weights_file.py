"""Whether a file of weights can be what was written, without loading it."""

from pathlib import Path

from bench.files import CorruptFile, UnreadableFile, not_permitted, one_line, parse_json, require_regular_file


def check_weights(path: Path) -> None:
    """Check a safetensors file by its header and its size.

    Raises:
        CorruptFile: it is torn or not there.
        UnreadableFile: this process is not permitted to read it.
    """
    try:
        require_regular_file(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError(f"has {path.stat().st_size} bytes, its header alone says {length}")
            header = parse_json(file.read(length))
        end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
        if path.stat().st_size != 8 + length + end:
            raise ValueError(f"has {path.stat().st_size} bytes, its header says {8 + length + end}")
    except PermissionError as error:
        raise UnreadableFile(f"{path}: {not_permitted(path)}") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise CorruptFile(f"{path}: {one_line(error)}") from error
