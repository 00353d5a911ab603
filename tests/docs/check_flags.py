"""Hands command lines of one binary, as JSON on stdin, to its own parser, and experiments to their own checks."""

import importlib
import json
import pathlib
import sys
import tempfile

from absl import flags

from tfshape import imports

name, work, sources = json.load(sys.stdin)
module = importlib.import_module(f"tfshape.cli.{name}")
FLAGS = flags.FLAGS
FLAGS.mark_as_parsed()
defaults = {flag: FLAGS[flag].value for flag in FLAGS}
failed, saved = False, tempfile.mkdtemp()
pathlib.Path(saved, "trial-000.npz").touch()
for file, text in sources.items():
    pathlib.Path(saved, file).write_text(text, "utf-8")
for page, arguments in work:
    for flag, value in defaults.items():
        FLAGS[flag].value, FLAGS[flag].present = value, 0
    try:
        rest = FLAGS([name, *arguments])[1:]
        assert not rest or name == "report", f"{rest} are no flags"
        for file in FLAGS["import"].value if "import" in FLAGS else ():
            imports.load(str(pathlib.Path(saved, file)))
        if FLAGS["poisons"].value if "poisons" in FLAGS else None:
            FLAGS["poisons"].value = saved  # a command before made it
        if name in ("evaluate", "craft", "sweep") and not (name == "sweep" and FLAGS.status):
            experiment = sys.modules["tfshape.cli.experiments"].from_flags()
            at_hand = experiment.dataset in ("fashion_mnist_mini", "digits")
            if at_hand and experiment.poisons is None and name != "sweep":
                from tfshape import evaluation

                evaluation.plan(experiment)
    except Exception as error:
        failed = True
        print(f"{page}: {name} {' '.join(arguments)}\n  {type(error).__name__}: {error}")
sys.exit(failed)
