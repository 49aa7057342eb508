"""The detector trained in PyTorch is the one that runs in NumPy."""

import numpy as np
import torch

from ecgkan.data.embedded import embedded_recording
from ecgkan.data.qrs import beat_likelihood, decimate, load_network
from ecgkan.models.qrs import QRSTrainingNetwork, folded_weights


def test_numpy_computes_what_pytorch_does(tmp_path):
    torch.manual_seed(0)
    network = QRSTrainingNetwork()
    signal = embedded_recording().signals[: 16 * 900, 0]
    leads = torch.from_numpy(decimate(signal)).reshape(1, 1, -1)
    with torch.no_grad():
        for _ in range(20):  # running statistics that are not those of a new layer
            network(leads)
        network.eval()
        expected = torch.sigmoid(network(leads))[0].numpy()
    np.savez(tmp_path / "weights.npz", **folded_weights(network))
    found = beat_likelihood(signal, network=load_network(tmp_path / "weights.npz"))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.ptp(found) > 0.001
