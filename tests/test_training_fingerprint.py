"""What the Mask R-CNN's trainer says that a run depends on."""

import shutil
from pathlib import Path

from bisect_cli.campaign import fingerprint
from maskrcnn import version
from maskrcnn.key import joined, key
from maskrcnn.settings import parse

KEY = {"code": "a", "data": "d", "flags": {"ROI_ALIGN_MASK": "v1"}}
EDITED = {**KEY, "code": "b"}


def changed(first, **options):
    """The parts in which the key of a tiny run with MASK_LOSS on and these options differs from `first`."""
    return fingerprint.differences(first, key(parse(**{"flags": "MASK_LOSS", "preset_name": "tiny", **options})))


def test_the_fingerprint_of_a_training_says_what_it_depends_on(tmp_path, monkeypatch):
    plain = key(parse("MASK_LOSS", preset_name="tiny"))
    assert plain["flags"] == {} and "numpy 1" in plain["software"]
    assert changed(plain, seed=7) == changed(plain, flags="") == ()
    assert changed(plain, changes=["steps=7"]) == ("configuration",)
    assert changed(plain, changes=["data_seed=1"]) == ("configuration", "data")
    assert changed(plain, ranks=2) == ("configuration",)

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_piece.py").write_text('import own_numbers\n\ndef loss():\n    """Old."""\n    return 1\n')
    (tmp_path / "own_numbers.py").write_text("ONE = 1\n")
    plant = ["MASK_LOSS=own_piece:loss"]
    assert changed(plain, plant=plant) == ("what is planted in MASK_LOSS",)
    assert changed(plain, plant=plant, flags="") == ()  # it acts only where its flag is on
    planted = key(parse("MASK_LOSS", preset_name="tiny", plant=plant))
    (tmp_path / "own_piece.py").write_text('# new\nimport own_numbers\ndef loss():\n    """New."""\n    return (1)\n')
    assert changed(planted, plant=plant) == ()  # comments, docstrings and layout
    (tmp_path / "own_numbers.py").write_text("ONE = 1.0\n")
    assert changed(planted, plant=plant) == ("what is planted in MASK_LOSS",)


def test_data_is_known_by_its_annotations(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text('{"annotations": [1, 2]}')
    first = key(parse("", preset_name="tiny", data=tmp_path))
    copied = tmp_path.with_name("copy")
    shutil.copytree(tmp_path, copied)
    assert changed(first, data=copied) == ()
    (copied / "annotations" / "instances_val.json").write_text('{"annotations": [1, 3]}')
    assert changed(first, data=copied) == ("data",)


def test_the_version_of_the_code_is_that_of_what_trains(tmp_path, monkeypatch):
    package = tmp_path / "maskrcnn"
    shutil.copytree(Path(version.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(version, "__file__", str(package / "version.py"))
    before = version.code_version()

    def after(name, edit):
        text = (package / name).read_text()
        (package / name).write_text(edit(text))
        try:
            return version.code_version()
        finally:
            (package / name).write_text(text)

    for name in ("components/mask_loss.py", "backbone.py", "horovod_trainer.py", "data/shapes.py", "detections.py"):
        assert after(name, lambda text: text + "\nX = 1\n") != before
        assert after(name, lambda text: text + "\n# more\n") == before
    for name in ("draw.py", "parity/cases.py", "examples/truncated_masks.py", "__main__.py"):
        assert after(name, lambda text: text + "\nX = 1\n") == before


def test_a_run_resumed_after_a_change_is_neither_one_nor_the_other():
    both = joined(KEY, {"code": "b", "data": "d", "flags": {"ROI_ALIGN_MASK": "v2"}})
    assert both == {"code": "a, then b", "data": "d", "flags": {"ROI_ALIGN_MASK": "v1, then v2"}}
    assert joined(both, EDITED)["code"] == "a, then b, then b" and joined(None, KEY) == joined(KEY, KEY) == KEY
