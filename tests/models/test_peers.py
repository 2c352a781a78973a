"""Other people's packages, where they are installed: what they save, and what they compute."""

import pytest
import torch

from tism_scan.errors import WeightsError
from tism_scan.models.bpnet_files import load_bpnet, load_chrombpnet

pytestmark = [
    pytest.mark.peers,
    # its own, and of what it imports
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def lite():
    """Return bpnet-lite's networks: pip install bpnet-lite."""
    return pytest.importorskip("bpnetlite.bpnet", reason="bpnet-lite is not installed")


def windows(n_bp=2114, n=2, seed=2):
    codes = torch.randint(4, (n, n_bp), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()


def assert_alike(ours, theirs):
    """Hold a network of ours to one of bpnet-lite's: outputs, and gradients of both."""
    X = windows().requires_grad_()
    profile, counts = theirs(X)
    torch.testing.assert_close(ours.profile_logits(X), profile, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours(X)[:, :1], counts, rtol=1e-5, atol=1e-5)
    logits = profile.flatten(1)
    shares = logits.detach().softmax(1)
    explained = counts.sum(), (shares * (logits - logits.mean(1, keepdim=True))).sum()
    for i_output, value in enumerate(explained):
        (theirs_here,) = torch.autograd.grad(value, X, retain_graph=True)
        (ours_here,) = torch.autograd.grad(ours(X)[:, i_output].sum(), X)
        largest = float(theirs_here.abs().max())
        torch.testing.assert_close(ours_here, theirs_here, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize(("n_outputs", "n_control_tracks"), [(1, 0), (2, 2)])
@pytest.mark.parametrize("kind", ["BPNet", "BasePairNet"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_what_bpnet_lite_saves_computes_the_same(lite, tmp_path, kind, n_outputs, n_control_tracks, is_whole):
    torch.manual_seed(3)
    how = {"n_filters": 8, "n_outputs": n_outputs, "n_control_tracks": n_control_tracks, "trimming": 557}
    theirs = getattr(lite, kind)(verbose=False, **how).eval().requires_grad_(False)
    torch.save(theirs if is_whole else theirs.state_dict(), tmp_path / "x.torch")
    if kind == "BasePairNet" and not is_whole:  # the tensors alone do not tell it from the other
        return
    assert_alike(load_bpnet(tmp_path / "x.torch"), lite.ControlWrapper(theirs))


def test_both_parts_in_one_file_of_bpnet_lite(lite, tmp_path):
    chrombpnet = pytest.importorskip("bpnetlite.chrombpnet")
    torch.manual_seed(3)
    how = {"n_outputs": 1, "n_control_tracks": 0, "verbose": False}
    bias = lite.BPNet(n_filters=4, n_layers=4, trimming=557, **how)
    theirs = chrombpnet.ChromBPNet(bias, lite.BPNet(n_filters=8, **how), name="x").eval()
    torch.save(theirs, tmp_path / "x.torch")
    assert_alike(load_chrombpnet(tmp_path / "x.torch"), theirs.accessibility)


def test_network_of_bpnet_lite_that_reads_its_padding_is_refused(lite, tmp_path):
    torch.save(
        lite.BasePairNet(n_filters=4, n_outputs=1, n_control_tracks=0, verbose=False), tmp_path / "x.torch"
    )
    with pytest.raises(
        WeightsError, match="has trimming 256; expected 557, with which the network reads no place"
    ):
        load_bpnet(tmp_path / "x.torch")


def test_bpnet_lite_reads_our_test_files_as_we_do(lite, tmp_path):
    from bpnet_files import basepairmodels_layers, keras_names, random_network, write_keras

    state = random_network()
    path = write_keras(tmp_path / "x.h5", state, keras_names(state, "wo_bias_bpnet_"))
    theirs = lite.BPNet.from_chrombpnet(path).eval().requires_grad_(False)
    assert_alike(load_chrombpnet(path), theirs)
    state = random_network(n_strands=2)
    path = write_keras(tmp_path / "y.h5", *basepairmodels_layers(state, 2))
    theirs = lite.BasePairNet.from_bpnet(path).eval().requires_grad_(False)
    ours, X = load_bpnet(path), windows()
    profile, counts = lite.ControlWrapper(theirs)(X)
    # up to constants: bpnet-lite takes another logarithm of no control, and adds a head's two biases unmixed
    for here, there in ((ours(X)[:, :1], counts), (ours.profile_logits(X), profile)):
        torch.testing.assert_close(here[1] - here[0], there[1] - there[0], rtol=1e-4, atol=1e-4)
