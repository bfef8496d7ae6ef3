import pytest
import torch

from experiments.table1 import DTYPES, FORMS, LOWEST, naive_log_ratio, smallest_finite


def test_paper_s_rows_are_reproduced_and_this_library_has_no_limit():
    naive, pytorch, ours = ([smallest_finite(form, dtype) for dtype in DTYPES] for form, _ in FORMS.values())
    # Paper: -103 and -51 in float32, -17 and -8 in float16. bfloat16 has float32's exponents and 2^-133 as smallest.
    assert naive == [-103, -17, -92]
    assert pytorch == [-51, -8, -46]
    assert ours == [LOWEST] * 3


@pytest.mark.parametrize("first_bad, expected", [(-1, 0), (-5, -4), (LOWEST, LOWEST + 1), (LOWEST - 1, LOWEST)])
def test_smallest_finite_stops_at_the_first_failure(first_bad, expected):
    def form(steps):
        return torch.where(steps == first_bad, torch.nan, steps)

    assert smallest_finite(form, torch.float32) == expected


def test_naive_log_ratio_is_infinite_one_step_further():
    assert naive_log_ratio(torch.tensor([-103.0, -104.0])).isinf().tolist() == [False, True]


def test_program_prints_one_line_per_form(run_python):
    ended = run_python("-m", "experiments.table1")
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 4 and "-103 (1.85e-45)" in rows[1] and f"none to {LOWEST}" in rows[3]
