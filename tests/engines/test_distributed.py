"""Two processes with a batch each learn what one process learns from the joint batch."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from training_case import STAGES, Batches, build_step, build_trainer

SHORT = [dict(stage, epochs=1) for stage in STAGES]


def train(output: Path, batches: Batches) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    # Instance norm and no dropout: statistics of a slice do not depend on the other slices of its process.
    step = build_step(norm="instance", dropout=0.0)
    for network in step.networks.values():
        network.double()
    step.optimizers = {
        name: torch.optim.SGD(network.parameters(), lr=0.05) for name, network in step.networks.items()
    }
    trainer = build_trainer(output, step=step, batches=batches, stages=SHORT)
    outputs: list[dict[str, float]] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    trainer.run()
    weights = {
        f"{name}.{key}": value
        for name in step.networks
        for key, value in step.bare(name).state_dict().items()
    }
    return outputs, weights


def work(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    result = train(
        Path(folder) / "run",
        Batches(batch_size=2, size=40, dtype=torch.float64, rank=rank, world_size=world_size),
    )
    torch.save(result, f"{folder}/rank{rank}.pt")
    torch.distributed.barrier()  # no process ends while another still computes
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    torch.multiprocessing.spawn(work, args=(2, str(tmp_path)), nprocs=2)
    (first, weights), (second, weights_second) = (
        torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)
    )
    expected, expected_weights = train(tmp_path / "one", Batches(batch_size=4, size=40, dtype=torch.float64))
    assert len(first) == len(expected) == 6
    for iteration, (a, b, joint) in enumerate(zip(first, second, expected, strict=True)):
        for name, value in joint.items():
            # The mean over processes is the loss of the joint batch. Tolerance: the losses are float32 means
            # (6e-8) of float64 networks; instance norm over T's last, 2 x 2 maps multiplies a difference
            # tenfold a step.
            assert (a[name] + b[name]) / 2 == pytest.approx(value, rel=1e-5, abs=1e-6), (iteration, name)
    for name, value in expected_weights.items():
        assert torch.equal(weights[name], weights_second[name]), name
        torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)
