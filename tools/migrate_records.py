"""Once: shipped records get names of their kinds and cards of their own type; the tensors stay as they are."""

import json
import re
from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "companion" / "weights"
KINDS = {"evaluate": "values", "record": "samples", "steps": "steps", "guide": "guidance"}


def main() -> None:
    for path in sorted(WEIGHTS.glob("*.json")):
        card = json.loads(path.read_text("utf8"))
        card["metric"] = card["metric"].replace("picture", "image")
        if path.stem.endswith("-record"):
            _, _, _, command, model, *options = card["command"].split()
            kind, rest = KINDS[command], " ".join(options)
            if kind == "values":
                rest = re.sub("--weights", "--folder", rest) + " --out runs"
                card["command"] = f"python -m companion evaluate {model} {rest}"
            else:
                card["command"] = f"python -m companion record {model} --kind {kind} {rest}"
            card["name"], card["model"] = f"{model}-{kind}", model
            del card["num_parameters"], card["data"]
            path.with_suffix(".safetensors").rename(WEIGHTS / f"{card['name']}.safetensors")
            path.unlink()
        text = json.dumps(card, indent=2) + "\n"
        (WEIGHTS / f"{card['name']}.json").write_text(text, "utf8")


if __name__ == "__main__":
    main()
