"""Training steps of the published PyTorch code, one for each line of input.

Run by benchmarks/train_step.py, with the Python of a clone of that code: ReActNet-18
with binary weights and without batch norm, cross entropy, adaptive gradient clipping at
0.02 of all but the classifier, and Adam, as its own train.py puts them together.

    python benchmarks/_published.py FOLDER BATCH
"""

import importlib
import json
import sys

import torch

folder, batch = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, folder)
agc = importlib.import_module("agc")
network = importlib.import_module("models.Qaw_reactnet_18_bf")

torch.manual_seed(0)
model = network.birealnet18(imagenet=False, num_classes=10).train()
clipped = [p for name, p in model.named_parameters() if "fc" not in name]
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_of = torch.nn.CrossEntropyLoss()
images, labels = torch.randn(batch, 3, 32, 32), torch.arange(batch) % 10

print(json.dumps({"torch": torch.__version__}), flush=True)
for _ in sys.stdin:
    optimizer.zero_grad()
    loss = loss_of(model(images), labels)
    loss.backward()
    agc.adaptive_clip_grad(clipped, clip_factor=0.02)
    optimizer.step()
    print(loss.item(), flush=True)
