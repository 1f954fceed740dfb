"""The multi-contrast MRI bundle: every overlay learns, in the paper's stages; runs survive being killed."""

from __future__ import annotations

from pathlib import Path

import nibabel
import pytest
import torch
from manifest import write_manifest
from trained import recorded, require_grid, require_resumable, restored

from medrestore.checks import InputError
from medrestore.domains.multicontrast_mri.schema import contrast_schema
from medrestore.engines.bundle import open_bundle
from medrestore.networks.weights import load_file, load_network

BUNDLE = Path(__file__).parents[2] / "bundles" / "multicontrast_mri_taskgan"
CONTRASTS = ["t1w", "t2_flair", "pdw"]


def test_models_say_their_contrasts(tiny_mri_training):
    for overlay, contrasts, neighbors in (("l1", CONTRASTS, 1), ("segmenter", ["t2_flair"], 0)):
        model = load_file(tiny_mri_training(overlay)[0] / "model.pt")
        assert (model["contrasts"], model["neighbors"]) == (contrasts, neighbors)


def test_generators_learn_for_equally_many_iterations(tiny_mri_training):
    epochs = {
        name: load_file(tiny_mri_training(name)[0] / "checkpoint.pt")["epoch"]
        for name in ("l1", "gan", "taskgan")
    }
    assert epochs == {"l1": 4, "gan": 4, "taskgan": 1 + 4}


def test_task_network_beside_the_generator_is_as_the_first_stage_left_it(tiny_mri_training):
    task, _ = tiny_mri_training("task")
    observer, _ = tiny_mri_training("observer")
    weights = {"task_weights": str(task / "model.pt"), "observer": str(observer / "model.pt")}
    folder, before = tiny_mri_training("taskgan", batches_per_epoch=10, **weights)
    pretrained = load_file(task / "model.pt")["networks"]["task"]["state"]
    after = load_file(folder / "model.pt")["networks"]["task"]["state"]
    assert all(torch.equal(value, before["task"][name]) for name, value in pretrained.items())
    assert all(torch.equal(value, after[name]) for name, value in pretrained.items())
    curves = recorded(folder)
    assert {"validation_psnr", "validation_task_mae", "validation_observer_mae"} <= set(curves)
    assert {"contrasts/pixel", "mixed/pixel", "mixed/task_restored", "mixed/discriminator"} <= set(curves)
    assert not any("task_joint" in name for name in curves)


def test_joint_update_and_squared_error_are_choices(tiny_mri_training):
    task, _ = tiny_mri_training("task")
    folder, before = tiny_mri_training(
        "paper",
        task_weights=str(task / "model.pt"),
        task_criterion="squared_error",
        batches_per_epoch=10,  # curves have a point every ten iterations
    )
    after = load_file(folder / "model.pt")["networks"]["task"]["state"]
    assert any(not torch.equal(value, before["task"][name]) for name, value in after.items())
    # At most 2, the squared distance of two corners of the simplex.
    assert 0 < recorded(folder)["mixed/task_joint"] < 2


def test_epochs_of_the_second_stage_hold_one_contrast_each(tiny_mri_overrides, trainings, tmp_path):
    overrides = {**tiny_mri_overrides, "output_dir": str(tmp_path / "run")}
    overrides["tracking_uri"] = f"sqlite:///{trainings}/mlflow.db"
    workflow = open_bundle(BUNDLE, "train", variants=["demo", "l1"], overrides=overrides)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train::trainer")
    seen: dict[int, list[list[int]]] = {}

    def note(batch: dict[str, torch.Tensor], *, epoch: int, iteration: int) -> dict[str, torch.Tensor]:
        # The wanted contrast is told to G by planes, and to T by its index.
        planes = batch["image"][:, -3:]
        assert torch.equal(planes.amin((2, 3)), planes.amax((2, 3)))
        assert torch.equal(planes[:, :, 0, 0].argmax(1), batch["contrast"])
        assert torch.equal(planes.sum(1), torch.ones_like(planes[:, 0]))
        seen.setdefault(epoch, []).append(sorted(set(batch["contrast"].tolist())))
        return batch

    trainer.augmentation = note
    workflow.run()
    assert sorted(kinds[0] for kinds in (seen[1][0], seen[2][0], seen[3][0])) == [0, 1, 2]
    assert all(seen[epoch] == [seen[epoch][0]] * 2 for epoch in (1, 2, 3))
    assert seen[4] == [[0, 1, 2]] * 2


def test_segmenter_is_validated_by_dice_and_loads(tiny_mri_training):
    folder, _ = tiny_mri_training("segmenter")
    assert 0 <= recorded(folder)["validation_dice"] <= 1
    assert load_network(folder / "model.pt", "segmenter")(torch.zeros(1, 1, 32, 32)).shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("overlays", "contrasts"), [(["l1"], None), (["taskgan"], ["pdw"]), (["gan", "lesions"], None)]
)
def test_restores_contrasts_of_the_test_split_on_the_source_grid(
    overlays, contrasts, tiny_mri_training, tiny_mri_overrides, segmenters, tmp_path
):
    given = segmenters if "lesions" in overlays else {}
    cohort = tiny_mri_overrides["dataset_dir"]
    weights = tiny_mri_training(*overlays, **given)[0] / "model.pt"
    written = restored(BUNDLE, weights, output=tmp_path / "restored", dataset_dir=cohort, contrasts=contrasts)
    wanted = contrasts or CONTRASTS
    assert [path.name for path in written] == [f"sub-0004_ses-01_{name}_restored.nii.gz" for name in wanted]
    for path in written:
        require_grid(path, f"{cohort}/subjects/sub-0004/pdw.nii.gz")


@pytest.fixture
def segmenters(tiny_mri_training) -> dict[str, str]:
    """A lesion segmenter that is a second T, and another that judges."""
    given = {
        "lesion_weights": tiny_mri_training("segmenter"),
        "lesion_observer": tiny_mri_training("segmenter", seed=8),
    }
    return {name: str(folder / "model.pt") for name, (folder, _) in given.items()}


def test_lesion_segmenter_is_a_second_task_and_stays_as_it_came(tiny_mri_training, segmenters):
    folder, before = tiny_mri_training(
        "l1", "lesions", batches_per_epoch=10, patch_size=[16, 16], **segmenters
    )
    model = load_file(folder / "model.pt")
    came = load_file(segmenters["lesion_weights"])["networks"]["segmenter"]["state"]
    kept = model["networks"]["lesion"]["state"]
    assert all(torch.equal(value, before["lesion"][name]) for name, value in came.items())
    assert all(torch.equal(value, kept[name]) for name, value in came.items())
    assert model["synthetic"] is True
    architecture = model["networks"]["generator"]["architecture"]
    assert (architecture["in_channels"], architecture["skip"]) == (3 * 6 + 3 + 1, -1)
    curves = recorded(folder)
    assert {"mixed/pixel", "mixed/lesion_restored", "validation_lesion_mae", "validation_psnr"} <= set(curves)
    assert {"validation_lesion_observer_mae", "validation_lesion_observer_mae_target"} <= set(curves)


def test_lesions_want_a_segmenter(tiny_mri_overrides, tmp_path):
    overrides = {**tiny_mri_overrides, "output_dir": str(tmp_path / "run")}
    workflow = open_bundle(BUNDLE, "train", variants=["demo", "lesions", "l1"], overrides=overrides)
    workflow.initialize()
    with pytest.raises(RuntimeError) as refused:
        workflow.parser.get_parsed_content("step")
    assert "nothing has taught it. Remedy: give lesion_weights" in str(refused.value.__cause__)
    data = workflow.parser.get_parsed_content("data")
    data.lesion_contrast = "stir"
    with pytest.raises(InputError, match="lesion_contrast 'stir' is none of contrasts, t1w, t2_flair, pdw"):
        _ = data.augmentation


@pytest.mark.slow
def test_killed_and_resumed_training_on_lesions_is_bit_identical(
    tiny_mri_overrides, segmenters, trainings, tmp_path, call
):
    given = {**tiny_mri_overrides, **segmenters, "tracking_uri": f"sqlite:///{trainings}/mlflow.db"}
    given |= {"batches_per_epoch": 6, "patch_size": [16, 16]}
    require_resumable(call, BUNDLE, given, tmp_path, epochs=4, variants=["demo", "lesions", "l1"])


@pytest.mark.slow
def test_real_scans_of_other_sequences_are_trained_on(shared_data, tmp_path):
    """T1 with and without contrast agent in, T2 and FLAIR out: a glioma of TCGA, by overrides alone."""
    cohort = tmp_path / "cohort"
    rows = []
    # One head: its lower half is trained on, its upper half validates.
    for split, part in (("train", slice(0, 78)), ("validation", slice(78, None))):
        (cohort / split).mkdir(parents=True)
        for name in ("t1", "t1c", "t2", "fla"):
            image = nibabel.load(shared_data(f"mri/tcga_du_7294_{name}.nii.gz"))
            nibabel.save(image.slicer[:, :, part], cohort / split / f"{name}.nii.gz")
        row = {"subject_id": f"tcga-{split}", "session_id": "ses-01", "split": split, "group": "patient"}
        row["input"] = f"{split}/t1.nii.gz;{split}/t1c.nii.gz"
        rows.append({**row, "t2w": f"{split}/t2.nii.gz", "t2_flair": f"{split}/fla.nii.gz", "lesions": ""})
    contrasts = ("t2w", "t2_flair")
    write_manifest(contrast_schema(contrasts), rows, cohort)
    overrides = {
        "dataset_dir": str(cohort),
        "output_dir": str(tmp_path / "run"),
        "contrasts": list(contrasts),
        "component": "any",
        "input_channels": 2,
        "spatial_size": [256, 256],
        "generator_channels": [8, 16, 16, 16],
        "batches_per_epoch": 6,
        "pretrain_epochs": 1,
        "contrast_epochs": 2,
        "mixed_epochs": 1,
        "validation_interval": 4,
        "device": "cpu",
    }
    workflow = open_bundle(BUNDLE, "train", variants=["demo", "taskgan"], overrides=overrides)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    model = load_file(tmp_path / "run" / "model.pt")
    assert model["acquisition"]["component"] == "any"
    assert model["networks"]["generator"]["architecture"]["in_channels"] == 3 * 2 + 2
    assert recorded(tmp_path / "run", store=tmp_path / "run")["validation_psnr"] > 0
