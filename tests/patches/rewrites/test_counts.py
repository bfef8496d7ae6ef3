"""The training loop counts its updates and logs the totals; other loops are refused with what to do by hand."""

import pytest

from patches.problems import CannotPatch
from patches.rewrites import counts
from tests.patches import edits

HPS = "def add(p):\n    p.add_argument('--zdim')\n    p.add_argument('--grad_clip')\n    p.add_argument('--save_dir')\n"
STEP = """\
def update(H, batch, model, optimizer):
    stats = model.forward(batch)
    stats['elbo'].backward()
    grad_norm = clip(model.parameters(), H.grad_clip)
    stats.update(dict(rate_nans=is_nan(stats['rate']), distortion_nans=is_nan(stats['distortion'])))
    skipped_updates = 1
    if stats['rate_nans'] == 0 and grad_norm < H.skip_threshold:
        optimizer.step()
        skipped_updates = 0
    stats.update(skipped_updates=skipped_updates, grad_norm=grad_norm)
    return stats
"""
LOOP = """\
def fit(H, data, model, optimizer, log):
    history = []
    step = 0
    # all epochs
    for epoch in range(H.num_epochs):
        for batch in data:
            result = update(H, batch, model, optimizer)
            history.append(result)  # for the means
            if step % 10 == 0:
                log(type='train_loss', step=step, **means(history))
            step += 1
        log(type='eval_loss', step=step)
"""
COUNTING = """\
def fit(H, data, model, optimizer, log):
    history = []
    step = 0
    updates = UpdateLog(H)
    # all epochs
    for epoch in range(H.num_epochs):
        for batch in data:
            result = update(H, batch, model, optimizer)
            updates.count(step, result)
            history.append(result)  # for the means
            if step % 10 == 0:
                log(type='train_loss', **updates.totals(), step=step, **means(history))
            step += 1
        log(type='eval_loss', step=step)
"""
TOP, IMPORT = "import os\n", "from update_log import UpdateLog\n"


def parse(**files):
    return edits.parse({f"{name}.py": code for name, code in ({"hps": HPS} | files).items()})


def rewritten(before, path="train.py", **files):
    """The module's new code; no other module may change."""
    sources = parse(**{path.removesuffix(".py"): before}, **files)
    changed = edits.edited(sources, counts.rewrite(sources))
    assert list(changed) == [path]
    return changed[path]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_loop_and_step_in_one_module(ends):
    before, after = TOP + STEP + LOOP, TOP + IMPORT + STEP + COUNTING
    assert rewritten(before.replace("\n", ends)) == after.replace("\n", ends)


def test_step_in_another_module():
    origin = "from engine import update\n"
    assert rewritten(origin + LOOP, engine=STEP) == origin + IMPORT + COUNTING


RENAMES = [  # in the loop and in the expected code
    {},
    {"result": "self.result", "step = 0": "self.n = 0", "=step": "=self.n", "step += 1": "self.n += 1",
     "count(step": "count(self.n"},
    {"def fit(H, ": "def fit(", "H.": "cfg.", "UpdateLog(H)": "UpdateLog(cfg)"},
    {"fit(H": "fit(self", "H.": "self.H.", "UpdateLog(H)": "UpdateLog(self.H)"},
    {"type='train_loss'": 'type="train_loss"'},
    {"for epoch in range(H.num_epochs)": "while H.num_epochs"},
    {"history = []": "history, updates = [], 1", "updates.": "update_counts.", "updates = Up": "update_counts = Up"},
]  # fmt: skip


@pytest.mark.parametrize("renames", RENAMES)
def test_other_names(renames):
    before, after = LOOP, COUNTING
    for old, new in renames.items():
        before, after = before.replace(old, new), after.replace(old, new)
    assert rewritten(TOP + STEP + before) == TOP + IMPORT + STEP + after


def test_counting_begins_in_the_block_of_the_outermost_loop():
    before = LOOP.replace("for epoch in range(H.num_epochs)", "if H.num_epochs")
    lines = rewritten(TOP + STEP + before).splitlines()
    at = lines.index("        updates = UpdateLog(H)")
    assert lines[at - 1 : at + 2] == ["    if H.num_epochs:", lines[at], "        for batch in data:"]


def test_methods_of_a_trainer():
    step = STEP.replace("(H, batch,", "(self, H, batch,").replace("\n", "\n    ").rstrip(" ")
    loop = LOOP.replace("fit(H,", "fit(self, H,").replace("update(H", "self.update(H").replace("\n",
        "\n    ").rstrip(" ")
    code = rewritten(f"class Trainer:\n    {step}\n    {loop}")
    assert "            updates.count(step, result)\n" in code and "\n        updates = UpdateLog(H)\n" in code


def test_loop_at_module_level():
    loop = "\n".join(line[4:] for line in LOOP.splitlines()[1:]) + "\n"
    assert rewritten(f"from engine import update\nH = load()\n{loop}", engine=STEP).startswith(
        f"from engine import update\n{IMPORT}H = load()\nhistory = []\nstep = 0\nupdates = UpdateLog(H)\n# all")


def test_import_stays_above_a_loop_at_module_level():
    loop = LOOP.replace("def fit(H, data, model, optimizer, log)", "if H.desc")
    code = rewritten(f"from engine import update\n{loop}import late\n", engine=STEP)
    assert code.startswith(f"from engine import update\n{IMPORT}if H.desc:\n") and code.endswith("import late\n")


def test_log_lines_of_other_functions_are_left_alone():
    other = "    def show(n):\n        log(type='train_loss', step=n)\n"
    head, body = LOOP.split("    step = 0\n")
    after = COUNTING.replace("    step = 0\n", other + "    step = 0\n")
    assert rewritten(f"{TOP}{STEP}{head}{other}    step = 0\n{body}") == TOP + IMPORT + STEP + after


@pytest.mark.parametrize("figures", [
    "stats.update({'skipped_updates': skipped_updates, 'grad_norm': grad_norm})\n    return stats",
    "stats['grad_norm'] = grad_norm\n    stats['skipped_updates'] = skipped_updates\n    return stats",
])  # fmt: skip
def test_other_ways_to_return_the_figures(figures):
    head = STEP[: STEP.index("    stats.update(skipped")]
    assert rewritten(f"{TOP}{head}    {figures}\n{LOOP}") == f"{TOP}{IMPORT}{head}    {figures}\n{COUNTING}"


def test_each_loop_of_a_checkout_counts():
    second, counting = (code.replace("def fit", "def fit_more") for code in (LOOP, COUNTING))
    assert rewritten(TOP + STEP + LOOP + second) == TOP + IMPORT + STEP + COUNTING + counting


def test_two_loops_in_one_function():
    body = LOOP[LOOP.index("    # all epochs"):]
    counting = COUNTING[COUNTING.index("    updates ="):]
    assert rewritten(TOP + STEP + LOOP + body) == TOP + IMPORT + STEP + COUNTING + counting


@pytest.mark.parametrize("layout", [
    "log(\n                    type='train_loss',  # why\n                    step=step,\n                )",
    "log(\n                    step=step,\n                    type='train_loss'\n                )",
    "log(step=step,type='train_loss')", "log(*names, step=step, type='train_loss', )",
])  # fmt: skip
def test_a_log_call_keeps_its_layout(layout):
    before = LOOP.replace("log(type='train_loss', step=step, **means(history))", layout)
    after = COUNTING.replace("log(type='train_loss', **updates.totals(), step=step, **means(history))",
                             layout.replace("'train_loss'", "'train_loss', **updates.totals()"))
    assert rewritten(TOP + STEP + before) == TOP + IMPORT + STEP + after


def test_imports_have_the_form_of_the_checkout():
    sources = edits.parse({"pkg/hps.py": HPS, "pkg/train.py": "from .engine import update\n" + LOOP, "pkg/engine.py": STEP})
    after = "from .engine import update\nfrom .update_log import UpdateLog\n" + COUNTING
    assert edits.edited(sources, counts.rewrite(sources))["pkg/train.py"] == after


LEFT = [
    {"vae": "def kl(a, b):\n    return a - b\n"},  # no training
    {"clock": "def tick(clock):\n    if clock.on:\n        clock.step()\n"},
]


@pytest.mark.parametrize("files", LEFT)
def test_left_alone(files):
    assert counts.rewrite(parse(**files)) == []


def test_other_callers_of_the_step_are_left_alone():
    tests = "from train import update\n\n\ndef test():\n    for n in range(3):\n        stats = update(H, n, m, o)\n"
    assert rewritten(TOP + STEP + LOOP, test_train=tests) == TOP + IMPORT + STEP + COUNTING


INLINED = LOOP.replace("result = update(H, batch, model, optimizer)", """\
result = model(batch)
            if grad_norm < H.skip_threshold:
                optimizer.step()
""")
REFUSED = [
    ({"train": INLINED}, "train.py:8: an update, but no figure in it is called distortion_nans or rate_nans or",
     "    | if grad_norm < H.skip_threshold:\n    |     optimizer.step()"),
    ({"train": STEP.replace("rate_nans", "kl_nans") + LOOP},
     "train.py:7: an update, but no figure in it is called rate_nans",
     "    | if stats['kl_nans'] == 0"),
    ({"train": STEP.replace("return stats", "return grad_norm") + LOOP},
     "train.py:7: an update, but its function does not return", "|"),
    ({"train": STEP.replace("    stats = ", "    if not batch:\n        return batch\n    stats = ") + LOOP},
     "train.py:9: an update, but its function does not return", "|"),
    ({"train": STEP + LOOP.replace("result = update(", "history.append(update(").replace("optimizer)\n  ",
     "optimizer))\n  ")},
     "train.py:18: the update's figures are not assigned to a name of their own", "    | history.append(update(H"),
    ({"train": STEP + LOOP.replace("result = update(", "update(")},
     "train.py:18: the update's figures are not assigned to a name of their own", "    | update(H"),
    ({"train": STEP.replace("    stats = ", "    if 0:\n        return 1, stats\n    stats = ") + LOOP},
     "train.py:9: an update, but its function does not return", "|"),
    ({"train": STEP + LOOP.replace("type='eval_loss', step=step", "type='train_loss', step=epoch")},
     "train.py:21: the update's number is not clear", "|"),
    ({"train": STEP + LOOP.replace("step=step, **", "step=len(history), **")},
     "train.py:21: the update's number is not clear",
     "    | log(type='train_loss', step=len(history)"),
    ({"train": STEP + LOOP.replace("H.num_epochs", "9")}, "train.py:18: it is not clear where the hyper-parameters are",
     "| result = "),
    ({"train": STEP + LOOP.replace("    step = 0\n", "    step = 0\n    log(type='train_loss', step=step)\n")},
     "train.py:15: a train_loss is logged before the loop", "    | log(type='train_loss'"),
    ({"train": STEP + LOOP.replace("train_loss", "loss")},
     "train.py: update makes an update, but no loop calls it and logs", ""),
    ({"train": STEP + LOOP.replace("result = update(", "result = other(")},
     "train.py: update makes an update, but no loop", ""),
    ({"train": "for x in data:\n    loss(x).backward()\n    optimizer.step()\n"},
     "train.py: this file trains, but no `if`", ""),
    ({"hps": HPS.replace("save_dir", "out"), "train": STEP + LOOP}, "train.py: no hyper-parameter is called save_dir",
     ""),
    ({"train": "from engine import update\n" + LOOP, "engine": STEP.replace("grad_norm=grad_norm", "norm=1").replace(
        "rate_nans=", "nans=")}, "engine.py:7: an update, but no figure in it is called grad_norm", ""),
]  # fmt: skip


@pytest.mark.parametrize(("files", "message", "shown"), REFUSED)
def test_other_loops_are_refused_with_what_to_do_by_hand(files, message, shown):
    with pytest.raises(CannotPatch) as refusal:
        counts.rewrite(parse(**files))
    assert str(refusal.value).startswith(message) and shown in str(refusal.value)
    assert all(line in str(refusal.value) for line in ("UpdateLog(H)", "updates.count(step, ", "**updates.totals()"))


def test_all_problems_are_reported():
    with pytest.raises(CannotPatch) as refusal:
        counts.rewrite(parse(train=STEP + LOOP.replace("step=step, **", "step=1, **"), other=INLINED))
    assert [problem.path for problem in refusal.value.problems] == ["other.py", "train.py"]
