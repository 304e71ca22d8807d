"""What one training run is asked to do, and whether it can be done. Free of TensorFlow."""

import ast
import dataclasses
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from maskrcnn import faults
from maskrcnn import weights as weights_file
from maskrcnn.config import Config, for_ranks, override, preset, validated
from maskrcnn.data import coco, shapes
from maskrcnn.errors import UserError
from maskrcnn.pieces import parse_flags

SHAPES_ROOT = Path("runs/data")
TENSORFLOW = "2.15"
TENSORFLOW_PACKAGES = ("tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow-macos", "tensorflow-intel")


@dataclass(frozen=True)
class Settings:
    """One training run, as the command line asks for it. Two equal Settings are the same run."""

    flags: tuple  # of the batched pieces, in the order of PIECES
    seed: int
    preset: str
    plant: tuple  # of "FLAG=fault" or "FLAG=package.module:function"
    data: Optional[str]  # a COCO-format folder; None for the generated shapes
    np: int  # ranks
    config: Config

    def to_json(self):
        """A dict of plain values from which `from_json` makes the same Settings."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "flags": list(self.flags), "plant": list(self.plant), "config": _plain(self.config)}

    @classmethod
    def from_json(cls, values):
        fields = {f.name: values[f.name] for f in dataclasses.fields(cls)}
        config = Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values["config"].items()})
        return cls(**{**fields, "flags": tuple(fields["flags"]), "plant": tuple(fields["plant"]), "config": config})

    def plants(self):
        """The planted functions, {flag: "module:function"}."""
        return faults.parse_plants(self.plant)

    def arguments(self, out):
        """The arguments of `python -m maskrcnn` that make this run again, as a list."""
        args = ["train", f"--flags={','.join(self.flags)}", f"--seed={self.seed}", f"--preset={self.preset}"]
        args += [f"--out={out}", f"--np={self.np}", *(f"--plant={text}" for text in self.plant)]
        if self.data is not None:
            args.append(f"--data={self.data}")
        old, new = _plain(preset(self.preset)), _plain(self.config)
        for key, value in new.items():
            if value != old[key]:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                args.append(f"--set={key}={text}")
        return args

    def differences(self, other):
        """How `other` is a different run, as texts such as "seed=3 instead of 4".

        Another number of ranks can go on with a run, and with another batch if that leaves the images of a step.
        """
        mine, theirs = self.to_json(), other.to_json()
        mine, theirs = ({**v.pop("config"), **v} for v in (mine, theirs))
        free = {"np", "batch"} if self.step_images == other.step_images else {"np"}
        differing = [key for key in mine if mine[key] != theirs[key] and key not in free]
        return [f"{key}={_show(mine[key])} instead of {_show(theirs[key])}" for key in differing]

    @property
    def step_images(self):
        """Images a step, on all ranks."""
        return self.np * self.config.batch

    def change_of_ranks(self, other):
        """What it means that `other`, of another number of ranks, goes on with this run: one line."""
        before, after = self.step_images, other.step_images
        line = f"ranks: {other.np} from here on instead of {self.np}"
        if before == after:
            return f"{line}; a step still sees {after} images."
        line += f"; a step sees {after} images instead of {before}, learning rate and number of steps stay as they are"
        return f"{line} (--batch {before // other.np} would keep {before})." if before % other.np == 0 else f"{line}."


def _plain(config):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def _show(value):
    return ",".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def parse(flags="", seed=0, preset_name="shapes", plant=(), data=None, batch=None, ranks=1, changes=(), weights=None):
    """The Settings that these command-line values ask for. Raises UserError where one of them is wrong."""
    config = override(preset(preset_name), changes)
    if batch is not None:
        config = validated(dataclasses.replace(config, batch=batch))
    if weights is not None:
        config = dataclasses.replace(config, weights=str(Path(weights).absolute()))
    if ranks < 1:
        raise UserError(f"--np {ranks}: the number of ranks must be at least 1.")
    if not 0 <= seed < 2**31:
        raise UserError(f"--seed {seed}: must be a whole number from 0 to {2**31 - 1}.")
    faults.parse_plants(plant)
    data = None if data is None else str(Path(data).absolute())
    return Settings(parse_flags(flags), seed, preset_name, tuple(plant), data, ranks, for_ranks(config, ranks))


def check(settings, out):
    """Raises UserError, in about a second, for whatever would stop this run later. Imports no TensorFlow."""
    check_python()
    check_tensorflow()
    if settings.np > 1:
        horovodrun()
    check_writable(out)
    for text in settings.plant:
        check_function(text, faults.parse_plant(text)[1])
    if settings.config.weights:
        weights_file.check(settings.config.weights, settings.config)
    elif settings.config.norm == "frozen_bn":
        raise UserError(
            "norm=frozen_bn keeps what pretrained weights have learnt: name them with --weights FILE (docs/coco.md)."
        )
    if settings.data is not None:
        coco.check(settings.data)


def check_python():
    if not (3, 9) <= sys.version_info[:2] <= (3, 11):
        found = ".".join(map(str, sys.version_info[:2]))
        raise UserError(
            f"Python {found}: TensorFlow {TENSORFLOW} needs Python 3.9 to 3.11; make the environment with one."
        )


def check_tensorflow():
    version = next(filter(None, map(_installed, TENSORFLOW_PACKAGES)), None)
    remedy = f"install it with: pip install 'tensorflow=={TENSORFLOW}.*'"
    if version is None:
        raise UserError(f"TensorFlow is not installed: {remedy}")
    if not version.startswith(TENSORFLOW + "."):
        raise UserError(f"TensorFlow {version} is installed, {TENSORFLOW} is needed: {remedy}")


def _installed(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def horovodrun():
    """The path of horovodrun, beside this interpreter or on the PATH. Raises UserError when Horovod is missing."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("horovodrun", path=places)
    if program is None or _installed("horovod") is None:
        raise UserError("--np: Horovod is not installed; install it with: pip install 'maskrcnn-bisect[horovod]'")
    return program


def check_writable(folder):
    """Raises UserError unless `folder` is, or could become, a folder that can be written to."""
    folder = Path(folder).absolute()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not nearest.is_dir():
        raise UserError(f"--out {folder}: {nearest} is a file; choose another folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"--out {folder}: {nearest} cannot be written to; choose another folder or change its rights.")


def check_function(text, target):
    """Raises UserError unless the module of `target` ("module:function") exists and names that function.

    Reads the module's source and does not run it, because such modules import TensorFlow.
    """
    module, _, function = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except Exception as e:  # a parent package is imported on the way, and may do anything
        raise UserError(f"--plant {text}: {module} cannot be imported: {type(e).__name__}: {e}") from None
    if spec is None:
        raise UserError(
            f"--plant {text}: there is no module {module}; run where it can be imported, or set PYTHONPATH."
        )
    if not spec.origin or not spec.origin.endswith(".py"):
        return
    try:
        names = set(_top_level_names(ast.parse(Path(spec.origin).read_bytes())))
    except SyntaxError as e:
        raise UserError(f"--plant {text}: {spec.origin}, line {e.lineno}: {e.msg}") from None
    if function not in names and "*" not in names:
        raise UserError(f"--plant {text}: {spec.origin} has no function {function}.")


def _top_level_names(tree):
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)
        else:
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def data_folder(settings):
    """The COCO-format folder to train on; draws the shapes first where none was given."""
    if settings.data is not None:
        return settings.data
    config = settings.config
    return shapes.ensure(SHAPES_ROOT, config.train_images, config.val_images, config.data_seed)
