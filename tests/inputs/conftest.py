"""Ends a test that hangs, which is one of the bad answers."""

import signal
from collections.abc import Iterator

import pytest

MOST_SECONDS = 600
QUICK = {
    "test_names_in_pictures": 3, "test_names_in_a_runs_pages": 5, "test_a_dictionarys_name_in_errors": 4,
    "test_runs_that_memory_cannot_hold_or_vectors_cannot_fit": 2, "test_trainings_that_memory_cannot_hold": 2,
    "test_a_damaged_run_is_not_continued": 3, "test_what_cannot_be_made_again_is_named": 15,
    "test_a_damaged_entry_is_made_again": 2, "test_a_cache_that_cannot_be_written": 8,
    "test_a_place_that_cannot_be_written": 15, "test_a_folder_that_is_read_only": 2,
    "test_a_disk_that_fills_up_meanwhile": 1, "test_a_device_that_is_not_there": 8,
    "test_a_spec_that_names_nothing": 15,
    "test_a_config_with_a_value_of_another_kind": 10, "test_a_tensor_of_another_shape_is_named": 4,
    "test_a_missing_tensor_is_named": 8, "test_a_weight_that_is_no_number_is_named": 6, "test_damaged_weights": 40,
    "test_a_run_json_with_other_values": 8, "test_values_of_a_run": 6,
}  # fmt: skip
"""How many cases of a test run at every change, where each takes a tenth of a second or more; of the others a third."""
FEW = 12
"""Tests of so few cases keep them all."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the rest slow: evenly chosen ones stay, so that every kind is among them."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(getattr(item, "originalname", item.name), []).append(item)
    for name, found in cases.items():
        kept = QUICK.get(name, max(min(len(found), FEW), len(found) // 3))
        stay = {round(index * len(found) / kept) for index in range(kept)}
        for index, item in enumerate(found):
            if index not in stay:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[None]:
    """Fail a test that takes longer than the busiest machine's slowest honest answer."""

    def hangs(number: int, frame: object) -> None:
        raise TimeoutError(f"no answer after {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
