"""`python -m maskrcnn`: trains, scores and shows one Mask R-CNN.

Exit codes: 0 done; 2 a user's mistake, said in one line; 128 + n stopped by signal n with the state saved (143 for
SIGTERM, 130 for SIGINT); any other a crash.
"""

import contextlib
import errno
import json
import os
import sys
from pathlib import Path

import click

try:
    from maskrcnn import horovod_run, slurm_nodes
    from maskrcnn.data import coco, shapes
    from maskrcnn.detections import coco_metrics, metric_names
    from maskrcnn.draw import draw, write_png
    from maskrcnn.errors import UserError
    from maskrcnn.faults import FAULTS, parse_plant
    from maskrcnn.key import key
    from maskrcnn.runfolder import RunFolder, write_json
    from maskrcnn.settings import check, check_function, check_python, check_tensorflow, data_folder, parse
    from maskrcnn.signals import StopSignals
except ModuleNotFoundError as missing:
    print(
        f"error: the training needs {missing.name}, which is not installed: pip install 'maskrcnn-bisect[maskrcnn]' "
        "(on Python 3.9 to 3.11).",
        file=sys.stderr,
    )
    sys.exit(2)


class Commands(click.Group):
    """A group whose errors are one line on stderr and exit code 2."""

    def main(self, *args, **kwargs):
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as e:
            _fail(e.format_message())
        except UserError as e:
            _fail(str(e))
        except click.Abort:
            code = 130
        sys.exit(code or 0)


def _fail(message):
    click.echo(f"error: {message}", err=True)
    sys.exit(2)


def _disk_full(error):
    """Whether an error, or what caused it, says so; TensorFlow has no type for it, only the system's text."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def _writing(folder):
    try:
        yield
    except Exception as e:
        if not _disk_full(e):
            raise
        raise UserError(
            f"--out {folder.path}: the disk is full; free some space and start again, it resumes."
        ) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli():
    """Mask R-CNN in eleven pieces, each per image or batched."""


@cli.command()
@click.option("--flags", default="", metavar="A,B", help="The pieces to run batched; the others run image by image.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--preset", default="shapes", show_default=True, help="Where the settings start from.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run; it resumes there.")
@click.option("--data", type=click.Path(), help="A COCO-format folder.  [default: generated shapes]")
@click.option("--weights", type=click.Path(), help="Pretrained weights of the ResNet, an .npz file of tensorpack's.")
@click.option("--batch", type=int, help="Images a step, on one rank.")
@click.option("--np", "ranks", type=int, help="Processes to train with (Horovod).  [default: 1]")
@click.option("--hosts", default="", metavar="A:8,B:8", help="Machines to train on, with how many processes on each.")
@click.option("--plant", multiple=True, metavar="FLAG=FAULT", help="A fault (see faults) or package.module:function.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Changes one setting of the preset.")
@click.option("--check", "only_check", is_flag=True, help="Checks all of this, trains nothing.")
def train(flags, seed, preset, out, data, weights, batch, ranks, hosts, plant, changes, only_check):
    """Trains; the same command again resumes."""
    ranks = horovod_run.ranks(ranks, hosts)
    settings = parse(flags, seed, preset, plant, data, batch, ranks, changes, weights)
    folder = RunFolder(out)
    if horovod_run.is_rank():
        return _train_rank(settings, folder)
    check(settings, out)
    folder.check_settings(settings)
    if only_check:
        click.echo(json.dumps({"key": key(settings), "metrics": metric_names(_areas(settings))}))
        return 0
    if folder.result() is not None:
        click.echo(f"{folder.path} has finished already: its result.json is there.", err=True)
        return 0
    with _writing(folder), folder.locked():
        if folder.run() is not None and folder.settings().np != ranks:
            click.echo(folder.settings().change_of_ranks(settings), err=True)
        if ranks > 1:
            data_folder(settings)  # drawn once, not by every rank
            if hosts or slurm_nodes.count() == 1:
                return horovod_run.launch(settings, folder, hosts)
            with slurm_nodes.reached_by_srun(ranks):
                return horovod_run.launch(settings, folder, slurm_nodes.spread(ranks))
        with StopSignals() as signals:
            from maskrcnn.train import train as run

            return run(settings, folder, signals)


def _areas(settings):
    """Those of the objects that an evaluation looks for, as far as they are known before anything is drawn."""
    if settings.data is None:
        return shapes.AREAS
    return [area for record in coco.load(settings.data, "val").records for area in record.areas]


def _train_rank(settings, folder):
    with horovod_run.outcome() as end, _writing(folder), StopSignals() as signals:
        from maskrcnn.train import train as run  # first: it puts TensorFlow into graph mode

        # isort: split
        from maskrcnn.horovod_trainer import Ranks

        end["code"] = run(settings, folder, signals, Ranks())
    return 0


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(), help="Another COCO-format folder with the same categories.")
@click.option("--json", "as_json", is_flag=True, help="The scores as one JSON object on stdout.")
def evaluate(folder, data, as_json):
    """Scores the newest checkpoint of the run in DIR on the validation images."""
    folder, settings = _finished(folder)
    if data is not None:
        coco.check(data)
    dataset = coco.load(data or data_folder(settings), "val")
    if list(dataset.category_names) != folder.run()["categories"]:
        raise UserError(f"--data {data}: its categories are not those that {folder.path} was trained on.")
    from maskrcnn.train import predictor

    # isort: split
    from maskrcnn.evaluate import detect_dataset

    predict, config = predictor(folder)
    metrics = coco_metrics(dataset, detect_dataset(predict, dataset, config))
    click.echo(json.dumps(metrics) if as_json else _table(metrics))


def _table(metrics):
    columns = list(dict.fromkeys(name.split("/")[1] for name in metrics))
    lines = ["      " + "".join(f"{c:>11}" for c in columns)]
    for kind in ("bbox", "segm"):
        values = [metrics.get(f"{kind}/{c}") for c in columns]
        lines.append(f"{kind:6}" + "".join("          -" if v is None else f"{v:11.3f}" for v in values))
    return "\n".join(lines)


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Least score drawn.")
@click.option("--to", type=click.Path(path_type=Path), help="Folder of the pictures.  [default: beside the images]")
def predict(folder, images, threshold, to):
    """Draws what the newest checkpoint of the run in DIR finds in the images, as NAME.detected.png."""
    folder, _ = _finished(folder)
    pixels = [_read_image(path) for path in images]
    targets = [(to or path.parent) / f"{path.stem}.detected.png" for path in images]
    for target in targets:
        if targets.count(target) > 1:
            raise UserError(f"two images would both be drawn to {target}; give them one at a time.")
    if to is not None:
        with contextlib.suppress(FileExistsError):
            to.mkdir(parents=True)
    from maskrcnn.train import predictor

    # isort: split
    from maskrcnn.evaluate import detect_images

    run, config = predictor(folder)
    names = folder.run()["categories"]
    for image, target in zip(pixels, targets):
        found = detect_images(run, [(0, image)], config)
        write_png(target, draw(image, found, names, threshold))
        click.echo(f"{target}  {sum(d.score >= threshold for d in found)} objects")


def _read_image(path):
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise UserError(f"cannot read the image {path}: {'it is no image' if path.exists() else 'no such file'}.")
    return pixels[:, :, ::-1]


def _finished(folder):
    check_python()
    check_tensorflow()
    folder = RunFolder(folder)
    return folder, folder.settings()


@cli.command()
def faults():
    """Lists the faults that --plant knows."""
    width = max(len(f"{f.flag}={f.name}") for f in FAULTS.values())
    for f in FAULTS.values():
        click.echo(f"{f.flag + '=' + f.name:{width}}  {f.recipe}")


@cli.command()
@click.option("--flags", default="", metavar="A,B", help="The pieces to try out.  [default: all]")
@click.option("--plant", multiple=True, metavar="FLAG=FAULT", help="A fault (see faults) or package.module:function.")
@click.option("--preset", default="shapes", show_default=True, help="Where the settings start from.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Changes one setting of the preset.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
@click.option("--case", metavar="NAME", help="Only this case, to reproduce what was found.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Writes everything found to this file, too.")
def parity(flags, plant, preset, changes, seed, case, file):
    """Compares the two implementations of pieces on random inputs, in seconds; exit code 1 if a piece differs."""
    settings = parse(flags, seed, preset, plant, changes=changes)
    check_python()
    check_tensorflow()
    for text in plant:
        check_function(text, parse_plant(text)[1])
    for text in plant:
        if settings.flags and parse_plant(text)[0] not in settings.flags:
            click.echo(f"note: --plant {text} is left out: its flag is not among --flags.", err=True)
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise UserError(f"--json {file}: it must be a file in a folder that is there.")
    from maskrcnn.parity.engine import run
    from maskrcnn.parity.report import show

    report = run(settings, case, changes)
    if file is not None:
        write_json(file, report)
    show(report)
    return 0 if all(piece["agrees"] for piece in report["pieces"]) else 1


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def data(folder):
    """Checks a COCO-format folder as training would, and says what it holds."""
    coco.check(folder)
    for split in coco.SPLITS:
        dataset = coco.load(folder, split)
        images, objects = len(dataset.records), sum(len(r.labels) for r in dataset.records)
        click.echo(f"{split}: {images} images, {objects} objects, {len(dataset.category_names)} categories")
        for reason, count in dataset.skipped.items():
            click.echo(f"  {count} x {reason}")


if __name__ == "__main__":
    cli(prog_name="python -m maskrcnn")
