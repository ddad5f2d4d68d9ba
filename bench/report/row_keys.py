"""Which runs share a row of a table: those of one configuration, whatever label they carry."""

from collections.abc import Hashable, Iterable, Sequence

from bench.report.run_entries import RunEntry

DIGITS = 8  # of a fingerprint that a label shows
LONGEST = 60  # signs of one setting that a label shows


def rows_of_entries(entries: Iterable[RunEntry]) -> dict[str, list[RunEntry]]:
    """Group entries by what was run besides the seed, in order of appearance, under names that tell the groups apart.

    Runs that differ in a setting, in the fingerprint of their data and weights, or in being stale never share a group,
    nor do two runs of one seed. A run of which one of these is not known, such as one without a record, belongs to the
    first group of its label. A group is named by the label of its entries, with the settings in which it differs from
    others of this label.
    """
    by_label: dict[str, list[RunEntry]] = {}
    for entry in entries:
        by_label.setdefault(entry.label, []).append(entry)
    rows: dict[str, list[RunEntry]] = {}
    for label, members in by_label.items():
        groups = _groups(members)
        for group, name in zip(groups, _names(label, groups), strict=True):
            number = 2
            unique = name
            while unique in rows or (unique != label and unique in by_label):
                unique, number = f"{name} ({number})", number + 1
            rows[unique] = group
    return rows


def _groups(entries: Sequence[RunEntry]) -> list[list[RunEntry]]:
    configurations = _filled([tuple(sorted(entry.configuration.items())) or None for entry in entries])
    fingerprints: dict[Hashable, list[str | None]] = {}
    for entry, key in zip(entries, configurations, strict=True):
        fingerprints.setdefault(key, []).append(entry.fingerprint)
    fallback = {key: next((value for value in values if value), None) for key, values in fingerprints.items()}
    groups: dict[Hashable, list[RunEntry]] = {}
    run_ids: set[str] = set()
    for entry, key in zip(entries, configurations, strict=True):
        if entry.run_id in run_ids:  # planned twice, counts once
            continue
        run_ids.add(entry.run_id)
        made_of, repetition = (key, entry.fingerprint or fallback[key], entry.stale), 0
        while any(entry.seed == other.seed for other in groups.get((made_of, repetition), ())):
            repetition += 1  # another run of the same seed: of another version, say
        groups.setdefault((made_of, repetition), []).append(entry)
    return list(groups.values())


def _filled(keys: Sequence[Hashable]) -> list[Hashable]:
    """The keys, with the first one that is known in place of None."""
    first = next((key for key in keys if key is not None), None)
    return [first if key is None else key for key in keys]


def _names(label: str, groups: Sequence[Sequence[RunEntry]]) -> list[str]:
    """The label with the settings in which the groups differ, and with fingerprints where these are equal."""
    if len(groups) == 1:
        return [label]
    facts = [dict(next((entry.configuration for entry in group if entry.configuration), {})) for group in groups]
    if len({tuple(sorted(group.items())) for group in facts}) < len(facts):
        for group, entries in zip(facts, groups, strict=True):
            fingerprint = next((entry.fingerprint for entry in entries if entry.fingerprint), None)
            group |= {"fingerprint": fingerprint[:DIGITS]} if fingerprint else {}
    keys = dict.fromkeys(key for group in facts for key in group)
    differing = [key for key in keys if len({group.get(key) for group in facts}) > 1]
    settings = [", ".join(_setting(key, group) for key in differing if key in group) for group in facts]
    return [f"{label} [{named}]" if named else label for named in settings]


def _setting(key: str, facts: dict[str, str]) -> str:
    value = facts[key]
    return f"{key}={value if len(value) <= LONGEST else value[: LONGEST - 1] + '…'}"
