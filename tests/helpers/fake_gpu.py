"""Trace slabs, whole blocks and batches of variants on tensors that say they are on a GPU.

    python fake_gpu.py GUARD.so < CASES.json > TRACES.json

The tensors have no values. What is launched, what would wait for the device, and how much arithmetic and
traffic it is, is seen without any GPU; times are not. A process of its own, since the guard is for all of it.
"""

import ctypes
import json
import sys
from collections import Counter

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from tism_scan.effects import engines as effect_engines
from tism_scan.effects import sharing as effect_sharing
from tism_scan.effects.engines import TrunkEffects
from tism_scan.effects.haplotypes import Comparison
from tism_scan.effects.packing import Packed
from tism_scan.engine import block_engine, limits, slabs, trunk, trunk_engine
from tism_scan.models.beluga import Beluga
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tiling import Block
from tism_scan.plan.tracks import Track

MEMORY = 70e9
# What makes the host wait for the device.
WAITING = {"_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal"}


class Launches(TorchDispatchMode):
    """Notes what is launched: names, arithmetic, bytes, and what is wrong with it."""

    def __init__(self):
        super().__init__()
        self.kernels, self.bytes_of, self.flop = Counter(), Counter(), 0
        self.mixed, self.copies, self.waits, self.turned = [], [], [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and is_channels_last(*args[:2]):
            out = out.contiguous(memory_format=torch.channels_last)  # as cuDNN gives it
            self.turned += [
                list(each.shape)
                for each in args[:2]
                if not each.is_contiguous(memory_format=torch.channels_last)
            ]
        space, _, name = func._schema.name.partition("::")
        if space == "prim":  # a question, such as for the device
            return out
        ins, outs = (
            [each for each in tree_flatten(given)[0] if isinstance(each, torch.Tensor)]
            for given in ((args, kwargs), out)
        )
        devices = {each.device.type for each in (*ins, *outs)}
        is_index_without_values = name in ("index", "index_put_") and any(
            each.dtype == torch.bool for each in ins[1:]
        )
        if name in WAITING or is_index_without_values:
            self.waits.append(name)
        elif len(devices) > 1:
            (self.copies if name in ("_to_copy", "copy_") else self.mixed).append(name)
        elif name == "lift_fresh" or devices == {"cpu"}:
            self.copies.append(name)  # a tensor of numbers, which is bound to be copied
        if not is_view(func) and "empty" not in name:
            is_only_written = name in ("copy_", "fill_", "zero_") or func._overloadname == "out"
            is_made = name.startswith("new_")  # like another tensor, whose numbers it does not read
            read = [
                each
                for each in ins
                if not is_made and not (is_only_written and any(each is given for given in outs))
            ]
            self.flop += flop_of(name, args, outs)
            self.note(name, read, outs)
            if name == "convolution" and args[2] is not None:
                self.note("bias of convolution", outs, outs)  # which PyTorch adds to what cuDNN gives
        return out

    def note(self, name, read, written):
        """Note one kernel."""
        kernel = f"{name}: {', '.join(map(words, read))} -> {', '.join(map(words, written))}"
        self.kernels[kernel] += 1
        self.bytes_of[kernel] += sum(map(span, (*read, *written)))

    def table(self, n_windows):
        """Return each kind of kernel, in order: KB that it moves for a window, its number, and tensors."""
        return [(self.bytes_of[kernel] / n_windows / 1e3, n, kernel) for kernel, n in self.kernels.items()]


def is_channels_last(*tensors):
    """Return whether any image is in memory as cuDNN takes it for a choice of that layout."""
    return any(each.is_contiguous(memory_format=torch.channels_last) for each in tensors)


def is_view(func):
    """Return whether an operation launches nothing."""
    aliases = [each.alias_info for each in func._schema.returns]
    return any(each is not None and not each.is_write for each in aliases) or func._schema.name in (
        "aten::_unsafe_view",
        "aten::detach",
    )


def flop_of(name, args, outs):
    """Return the arithmetic of a product."""
    if name == "convolution":
        weight = args[1]
        return 2 * outs[0].numel() * weight.numel() // weight.shape[0]
    if name in ("mm", "addmm", "_addmm_activation", "bmm"):
        left, right = [each for each in args if isinstance(each, torch.Tensor)][-2:]
        return 2 * left.numel() * right.shape[-1]
    return 0


def words(tensor):
    """Return a tensor's dtype and shape."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def span(tensor):
    """Return the bytes of memory under a tensor, of which windows that overlap have the same."""
    if not tensor.numel():
        return 0
    furthest = sum((size - 1) * abs(step) for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return min(tensor.numel(), 1 + furthest) * tensor.element_size()


def model_on_gpu():
    """Return Beluga; it is there, and parameters without values cannot be moved."""
    with torch.device("cuda:0"):
        model = Beluga()
    model.to = lambda device: model
    return model


def trace_variants(n_at_once):
    """Return what a batch of 16 substitutions has the host wait for, so many of them followed together."""
    windows = np.zeros((16, 2000), np.uint8)
    batch = [Comparison("chr1", 64 * i, window, base=1) for i, window in enumerate(windows)]
    with FakeTensorMode(allow_non_fake_inputs=True):
        engine = TrunkEffects(
            model_on_gpu(), Scoring((Track("0", (267,), (1.0,)),), 2000), device="cuda:0", memory_gb=60
        )
        engine._n_at_once = n_at_once
        with Launches() as seen, torch.no_grad():
            engine._strand(Packed(batch), is_reverse=False)
    return {"mixed": seen.mixed, "copies": seen.copies, "waits": seen.waits}


def trace(case):
    """Return the figures of one slab."""
    chosen = enumerate(case["tracks"])
    tracks = tuple(Track(str(i), tuple(outputs), tuple(weights)) for i, (outputs, weights) in chosen)
    scoring = Scoring(tracks, 2000, **case["scoring"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model_on_gpu()
        engine = trunk_engine.TrunkEngine(model, scoring, device="cuda:0", batch_size=case["batch_size"])
        flop = engine.flop_per_window()
        n = engine.batch_size
        codes = torch.zeros((n - 1) * scoring.stride + 2000, dtype=torch.uint8, device="cuda:0")
        with Launches() as seen:
            total = engine._sum_of_scores(codes, np.arange(n))
    return {
        "n_windows": n,
        "kernels": seen.kernels.total(),
        "bytes_per_window": seen.bytes_of.total() / n,
        "table": seen.table(n),
        "flop_per_window": seen.flop / n,
        "flop_of_the_method": flop,
        "mixed": seen.mixed,
        "copies": seen.copies,
        "waits": seen.waits,
        "turned": seen.turned,
        "device": str(total.device),
        "dtype": str(total.dtype),
        "shape": list(total.shape),
    }


def trace_block(case):
    """Return what is wrong with the queueing of a block that needs few windows, here and there.

    Copies that the device makes when it comes to them want pinned memory, which is not to be had here: they
    are left out.
    """
    tracks = (Track("0", (0,), (1.0,)),)
    scoring = Scoring(tracks, 2000, **case["scoring"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        engine = trunk_engine.TrunkEngine(model_on_gpu(), scoring, device="cuda:0", batch_size=64)
        block = Block("chr1", 1, 1 << 16, 1 << 17)
        stretch = scoring.lattice.stretch(block, 1 << 18, scoring.stitch)
        wanted = np.zeros(len(block), dtype=np.bool_)
        wanted[::5000] = True
        codes = np.zeros(stretch.end - stretch.start, dtype=np.uint8)
        with Launches() as seen:
            queued = engine.queue(codes, stretch, wanted)
    return {
        "kernels": seen.kernels.total(),
        "mixed": seen.mixed,
        "copies": seen.copies,
        "waits": seen.waits,
        "shape": list(queued.on_host.shape),
    }


def without_values(values, device):
    """Return what `to_device` does, of a device that has no values."""
    return torch.empty(values.shape, dtype=getattr(torch, values.dtype.name), device=device)


def main():
    ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
    trunk_engine.why_no_stack = lambda *given, **how: None  # tensors without values cannot be compared
    limits.memory_of = lambda device: 0.5 * MEMORY
    for module in (torch.nn.modules.conv._ConvNd, torch.nn.Linear):
        module.reset_parameters = lambda self: None
    for module in (block_engine, slabs, trunk, effect_engines, effect_sharing):
        module.to_device = without_values
    block_engine.to_host = lambda tensor: tensor
    block_engine.Mark = lambda device: None
    asked = json.load(sys.stdin)
    variants = [trace_variants(n_at_once) for n_at_once in asked["variants"]]
    traces = [trace_block(case) if case["is_block"] else trace(case) for case in asked["slabs"]]
    json.dump({"slabs": traces, "variants": variants}, sys.stdout)


if __name__ == "__main__":
    main()
