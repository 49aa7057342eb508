"""The detector trained in PyTorch is the one that ONNX Runtime computes."""

import numpy as np
import pytest
import torch

from ecgkan.data.embedded import embedded_recording
from ecgkan.data.qrs import beat_likelihood, decimate, load_network
from ecgkan.errors import CheckpointError
from ecgkan.models.qrs import QRSTrainingNetwork, to_onnx


def test_onnx_runtime_computes_what_pytorch_does(tmp_path):
    torch.manual_seed(0)
    network = QRSTrainingNetwork()
    signal = embedded_recording().signals[: 16 * 900, 0]
    leads = torch.from_numpy(decimate(signal)).reshape(1, 1, -1)
    with torch.no_grad():
        for _ in range(20):  # running statistics that are not those of a new layer
            network(leads)
        network.eval()
        expected = torch.sigmoid(network(leads))[0].numpy()
    (tmp_path / "network.onnx").write_bytes(to_onnx(network))
    found = beat_likelihood(signal, network=load_network(tmp_path / "network.onnx"))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.ptp(found) > 0.001


def test_a_file_that_is_no_detector_is_named(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(CheckpointError, match=r"broken\.onnx.*expected a QRS detector"):
        load_network(broken)
    with pytest.raises(CheckpointError, match=r"absent\.onnx"):
        load_network(tmp_path / "absent.onnx")


def test_another_onnx_model_is_refused(tmp_path):
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [x], [y]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    file = tmp_path / "other.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="no QRS detector"):
        load_network(file)
