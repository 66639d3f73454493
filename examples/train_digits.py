# SPDX-License-Identifier: Apache-2.0
"""Train the float32 network that `qkernels demo` quantizes, and write it with its data.

    python examples/train_digits.py --out digits.npz     train, about a minute on one core
    python examples/train_digits.py --check              train and compare with the packaged file

Needs torch (CPU) and scikit-learn, whose `load_digits` carries the UCI handwritten digits (1,797
images of 8 x 8 pixels, values 0 to 16). The images are split once, stratified by class and with a
fixed seed: 1,077 for training, of which 256 also serve for calibration, and 720 held out. The
recipe was settled by cross-validation inside the training part (`--validate`); the held-out part
is used once, to report accuracy. Everything is seeded and runs on one thread, so one torch build
on one kind of CPU gives the same bytes again.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch  # noqa: TID251
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch import nn  # noqa: TID251
from torch.nn import functional as F  # noqa: TID251

SEED = 8
HELD_OUT = 720
CALIBRATION = 256
EPOCHS = 120
BATCH = 64
PACKAGED = Path(__file__).parent.parent / "python" / "qkernels" / "data" / "digits.npz"


class DigitsNet(nn.Module):
    """The network of `qkernels.data.digits.network`. x: (B, 1, 8, 8) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, padding=1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.pointwise = nn.Conv2d(24, 48, 1)
        self.body = nn.Conv2d(48, 48, 3, padding=1)
        self.head = nn.Conv2d(48, 64, 3, padding=1)
        self.classifier = nn.Linear(64 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.depthwise(x))
        x = F.relu(self.pointwise(x))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.body(x) + x)
        x = F.relu(self.head(x))
        return self.classifier(x.flatten(1))


def split(seed: int = SEED) -> dict[str, np.ndarray]:
    """The data as uint8 arrays: train, calibration (part of train) and held-out images, labels."""
    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.uint8)
    rows = np.arange(len(images))
    train, held_out = train_test_split(rows, test_size=HELD_OUT, stratify=labels, random_state=seed)
    _, calibration = train_test_split(
        train, test_size=CALIBRATION, stratify=labels[train], random_state=seed
    )
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "calibration_images": images[calibration],
        "held_out_images": images[held_out],
        "held_out_labels": labels[held_out],
    }


def scaled(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.astype(np.float32) / 16)


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image rotated by up to 9 degrees, scaled by up to 12 %, moved by up to a pixel."""

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(len(x), generator=generator) * 2 - 1) * limit

    angle, scale = uniform(0.16), 1 + uniform(0.12)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (cos, -sin, uniform(0.25), sin, cos, uniform(0.25))
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def train(images: np.ndarray, labels: np.ndarray, *, quiet: bool = False) -> DigitsNet:
    """AdamW with one cosine cycle, label smoothing, and an average of the last weights."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    x, y = scaled(images), torch.from_numpy(labels.astype(np.int64))
    net = DigitsNet()
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            logits = net(augment(x[rows], generator))
            loss = F.cross_entropy(logits, y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
        if not quiet and (epoch + 1) % 20 == 0:
            print(f"epoch {epoch + 1:3d} of {EPOCHS}: loss {loss.item():.4f}", file=sys.stderr)
    return average.module.eval()


@torch.no_grad()
def accuracy(net: DigitsNet, images: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(net(scaled(images)).argmax(1).numpy() == labels))


def validate(data: dict[str, np.ndarray]) -> float:
    """Mean accuracy of five folds inside the training part."""
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    images, labels = data["train_images"], data["train_labels"]
    scores = [
        accuracy(train(images[fit], labels[fit], quiet=True), images[test], labels[test])
        for fit, test in folds.split(images, labels)
    ]
    return float(np.mean(scores))


def build() -> str:
    """What decides the bits of a training run: the torch build and the vector unit it uses."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def pack(net: DigitsNet, data: dict[str, np.ndarray]) -> bytes:
    """The file: weights float32, images uint8 (n, 1, 8, 8), labels, facts as JSON."""
    facts = {
        "source": "UCI Optical Recognition of Handwritten Digits, CC BY 4.0",
        "seed": SEED,
        "build": build(),
        "float_accuracy": accuracy(net, data["held_out_images"], data["held_out_labels"]),
    }
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    arrays |= {name: data[name] for name in data if not name.startswith("train_")}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def check(content: bytes, packaged: Path) -> list[str]:
    """Differences between a new file and the packaged one, as sentences. None: reproduced."""
    old, new = np.load(packaged), np.load(io.BytesIO(content))
    old_facts, new_facts = (json.loads(bytes(file["facts"])) for file in (old, new))
    problems = []
    if sorted(old.files) != sorted(new.files):
        problems.append(f"arrays differ: {sorted(set(old.files) ^ set(new.files))}")
    problems += [
        f"{name} differs"
        for name in ("calibration_images", "held_out_images", "held_out_labels")
        if not np.array_equal(old[name], new[name])
    ]
    drop = abs(old_facts["float_accuracy"] - new_facts["float_accuracy"])
    if drop > 0.005:
        problems.append(f"accuracy moved by {100 * drop:.2f} points")
    if old_facts["build"] == new_facts["build"] and packaged.read_bytes() != content:
        problems.append(f"bytes differ although both were made with {old_facts['build']}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="where to write the file")
    parser.add_argument("--check", action="store_true", help="compare with the packaged file")
    parser.add_argument("--validate", action="store_true", help="cross-validate the recipe only")
    arguments = parser.parse_args()
    if not (arguments.out or arguments.check or arguments.validate):
        parser.error("say what to do: --out PATH, --check or --validate")

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = split()
    if arguments.validate:
        print(f"five-fold accuracy inside the training part: {validate(data):.4f}")
        return 0
    net = train(data["train_images"], data["train_labels"])
    content = pack(net, data)
    score = accuracy(net, data["held_out_images"], data["held_out_labels"])
    print(f"held-out accuracy {100 * score:.2f} % on {HELD_OUT} images; {len(content)} bytes")
    if arguments.out:
        arguments.out.write_bytes(content)
    problems = check(content, PACKAGED) if arguments.check else []
    for problem in problems:
        print(f"not reproduced: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
