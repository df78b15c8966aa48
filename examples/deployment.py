"""From a network to an ONNX file that decides by itself: the same masks, without rankseg.

A tiny network stands for yours. Its end, RankSEG, becomes a head of plain tensor operations; the
network with it is written as ONNX and run by onnxruntime on images of other sizes. Needs
pip install onnxruntime onnxscript. Run: python examples/deployment.py
"""

import tempfile
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from rankseg import RankSEG

DYNAMIC = ({0: "batch", 2: "height", 3: "width"},)


def main() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3, padding=1).eval()  # yours
    decide = RankSEG(metric="dice", activation="softmax")

    before = nn.Sequential(network, decide).eval()  # runs where torch and rankseg are
    after = nn.Sequential(network, decide.head(passes=6)).eval()  # 6: quick to export

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            torch.onnx.export(
                after,
                (torch.rand(2, 3, 32, 40),),
                path,
                dynamo=True,
                dynamic_shapes=DYNAMIC,
                verbose=False,
            )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        print(f"model.onnx has {path.stat().st_size / 1e3:.0f} kB")

        print("image            pixels that differ from RankSEG    from argmax")
        for height, width in ((32, 40), (64, 64), (100, 33)):
            image = 4 * torch.rand(1, 3, height, width)
            (labels,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
            found = torch.from_numpy(labels)
            with torch.no_grad():
                same = int((found != before(image)).sum())
                usual = int((found != network(image).argmax(1)).sum())
            print(f"{height:3} x {width:3}  {same:24}  {usual:24}")


if __name__ == "__main__":
    main()
