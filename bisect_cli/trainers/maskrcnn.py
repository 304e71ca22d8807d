"""The training of this package, `python -m maskrcnn`: the only module that knows it."""

import contextlib
import math
import sys

from bisect_cli.campaign.spec import Flag, Group, Metric, Spec
from bisect_cli.errors import UserError
from bisect_cli.trainers import Command, Option, Trainer, check, requirements, workdir
from maskrcnn import config
from maskrcnn.errors import UserError as TrainingError
from maskrcnn.pieces import PIECES, PREFIX, parse_flag

FIRST_LOOK = 0.6  # of a run: where an evaluation of it pays most, on recorded trainings (docs/early-stopping.md)
FLAGS = tuple(PIECES)  # in the order of the data's way through the model
GROUPS = (
    *(Group(f"L1B{i}", (flag,), 1) for i, flag in enumerate(FLAGS, 1)),
    Group("L2B1", ("DATA_PIPELINE",), 2),
    Group("L2B2", ("RPN_HEAD", "RPN_LOSS"), 2),
    Group("L2B3", ("SAMPLE_TARGETS", "ROI_ALIGN_BOX"), 2),
    Group("L2B4", ("FAST_RCNN_OUTPUTS", "FAST_RCNN_LOSSES"), 2),
    Group("L2B5", ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK", "MASK_LOSS"), 2),
    Group("L3B1", ("GENERATE_PROPOSALS", "SAMPLE_TARGETS", "ROI_ALIGN_BOX"), 3),
    Group("L3B2", ("FAST_RCNN_OUTPUTS", "FAST_RCNN_LOSSES", "ROI_ALIGN_MASK"), 3),
    Group("top", FLAGS, 4),
)
SIZES = ("", "50", "75", "_small", "_medium", "_large")

OPTIONS = (
    Option("preset", "--preset", "The trainer's preset.", default="shapes", show_default=True, parity=True),
    Option("data", "--data", "A COCO folder. Default: generated shapes.", type="path", default=""),
    Option("weights", "--weights", "Pretrained weights, an .npz file (docs/coco.md).", type="path", default=""),
    Option("batch", "--batch", "Images a step, on one process.", type="number"),
    Option("np", "--np", "Processes of a run (Horovod).", type="number", default=1, show_default=True),
    Option(
        "hosts",
        "--hosts",
        "Machines that share a run, with how many processes each.",
        default="",
        metavar="A:8,B:8",
    ),
    Option(
        "plants",
        "--plant",
        "Inject a fault into a piece, or override the piece by a function of one's own. Repeatable.",
        multiple=True,
        metavar="FLAG=FAULT",
        parity=True,
    ),
    Option("sets", "--set", "A setting of the trainer. Repeatable.", multiple=True, metavar="KEY=VALUE", parity=True),
    Option("trainer", "", "A command in the place of `python -m maskrcnn train`.", multiple=True, parity=True),
)


class MaskRCNN(Trainer):
    """One run is a process of its own, or with --np several, of `python -m maskrcnn train`."""

    options = OPTIONS

    def spec(self, options):
        given = {option.name: [] if option.multiple else option.default for option in OPTIONS}
        given.update((name, list(v) if isinstance(v, tuple) else v) for name, v in options.items())
        for switch, name, why in (
            ("--np", "np", "a run needs a process"),
            ("--batch", "batch", "a step needs an image"),
        ):
            if given[name] is not None and given[name] < 1:
                raise UserError(f"{switch} {given[name]}: {why}; give 1 or more.")
        return Spec(
            trainer="maskrcnn",
            flags=tuple(Flag(piece.flag, piece.summary) for piece in PIECES.values()),
            groups=GROUPS,
            metrics=tuple(_metrics(given["preset"])),
            default_metrics=("bbox", "segm"),
            prefix=PREFIX,
            description=(f"preset {given['preset']}", *(f"--plant {plant}" for plant in given["plants"])),
            options=given,
        )

    def command(self, settings, flags, seed, home, attempt=1):
        return Command(self.argv(settings, flags, seed, home / "out"), workdir(settings))

    def argv(self, settings, flags, seed, out):
        """The command that trains one run, as a list."""
        options = settings.spec.options
        command = [*(options["trainer"] or (sys.executable, "-m", "maskrcnn", "train"))]
        command += ["--flags", ",".join(flags), "--seed", str(seed), "--preset", options["preset"], "--out", str(out)]
        for name in ("data", "weights", "hosts"):
            command += [f"--{name}", options[name]] if options[name] else []
        command += ["--np", str(options["np"])] if options["np"] > 1 else []
        command += ["--batch", str(options["batch"])] if options["batch"] is not None else []
        command += _repeated("--plant", options["plants"]) + _repeated("--set", options["sets"])
        step = self.first_look(settings)
        return [*command, "--set", f"eval_every={step}"] if step else command

    def check_command(self, settings, out):
        argv = [*self.argv(settings, settings.flags, settings.seed, out), "--check"]
        return Command(argv, workdir(settings))

    def check_answer(self, settings, text):
        return check.fingerprint_in(settings, text)

    def parity_argv(self, settings, file, case=None):
        """Without the plants of other flags: they act nowhere in the campaign, and the trainer would refuse them."""
        options = settings.spec.options
        command = [*(options["trainer"] or (sys.executable, "-m", "maskrcnn")), "parity"]
        command += ["--flags", ",".join(settings.flags), "--preset", options["preset"], "--seed", str(settings.seed)]
        plants = [plant for plant in options["plants"] if _planted_flag(plant) in settings.flags]
        command += _repeated("--plant", plants) + _repeated("--set", options["sets"])
        return [*command, *(["--case", case] if case else []), "--json", str(file)]

    def has_parity(self, settings):
        return not settings.spec.options["trainer"]

    def first_look(self, settings):
        """0 also if the length of a run is not known."""
        options = settings.spec.options
        if not settings.early_stop or any(setting.startswith("eval_every=") for setting in options["sets"]):
            return 0
        sets = [*options["sets"], *([f"batch={options['batch']}"] if options["batch"] else [])]
        with contextlib.suppress(TrainingError):  # the trainer itself says it better, or knows more
            steps = config.for_ranks(config.override(config.preset(options["preset"]), sets), options["np"]).steps
            return math.ceil(FIRST_LOOK * steps) if steps > 2 else 0
        return 0

    def fills_machine(self, settings):
        return settings.spec.options["np"] > 1 or bool(settings.spec.options["hosts"])

    def duration_key(self, spec):
        return [spec.trainer, *(spec.options[name] for name in ("preset", "sets", "batch"))]

    def notes(self, settings):
        for plant in settings.spec.options["plants"]:
            flag = _planted_flag(plant)
            if flag not in settings.flags:
                yield f"--plant {plant} will do nothing: {flag} is not among --flags."

    def missing(self, settings):
        return "" if settings.spec.options["trainer"] else requirements.missing()


def _metrics(preset):
    """AP of boxes and masks, over all objects, at one overlap, and of small, medium and large ones.

    Noise between seeds, measured: shapes .013 of mask AP and .027 of box AP over five seeds. On a full schedule on COCO
    seeds differ by a few tenths of a point, and papers report whole ones.
    """
    targets = config.TARGETS.get(preset, {})
    for kind in ("bbox", "segm"):
        for size in SIZES:
            key = f"{kind}/AP{size}"
            name = key if size else kind
            noise = 0.003 if preset == "coco" else 0.025 if kind == "bbox" else 0.015
            yield Metric(
                name,
                key,
                title=name if size else f"{name} AP",
                low=0.0,
                high=1.0,
                noise=noise,
                smallest_drop=0.01 if preset == "coco" else 0.03,
                target=targets.get(name),
            )


def _planted_flag(plant):
    """The flag of a --plant FLAG=FAULT. Raises UserError, with the nearest names, if there is no such flag."""
    try:
        return parse_flag(plant.partition("=")[0])
    except TrainingError as error:
        raise UserError(str(error)) from None


def _repeated(switch, values):
    return [word for value in values for word in (switch, value)]


TRAINER = MaskRCNN()
SPEC = TRAINER.spec({})  # with the options as they are by themselves
