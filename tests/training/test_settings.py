import json

import pydantic
import pytest

from shrinkproof.protocols import Needs
from shrinkproof.registry import fields_of
from shrinkproof.training.rates import rate_at
from shrinkproof.training.settings import Distillation, Training


def schedule(name, epochs=10, rate=0.1, **settings):
    return Training(epochs=epochs, learning_rate=rate, schedule=name, **settings)


def test_schedules_by_hand():
    assert rate_at(schedule("constant"), 7, 10) == 0.1
    assert rate_at(schedule("cosine"), 0, 10) == 0.1
    assert rate_at(schedule("cosine"), 5, 10) == pytest.approx(0.05)
    cycle = schedule("onecycle", rate=0.3)
    assert [rate_at(cycle, k, 10) for k in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert rate_at(cycle, 9, 10) < 0.02
    assert rate_at(schedule("onecycle", epochs=1, rate=0.3), 0, 1) == 0.3


def test_step_lowers_the_rate_after_each_milestone():
    steps = schedule("step", epochs=4, rate=0.8, milestones=(1, 3), gamma=0.5)
    assert [rate_at(steps, k, 8) for k in range(8)] == pytest.approx(
        [0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2]
    )


def test_step_agrees_with_torch():
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    torch_schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5], gamma=0.2)
    ours = schedule("step", epochs=7, rate=0.3, milestones=(2, 5), gamma=0.2)
    for epoch in range(7):
        assert rate_at(ours, 3 * epoch, 21) == pytest.approx(torch_schedule.get_last_lr()[0])
        optimizer.step()
        torch_schedule.step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"batch": 0}, "greater than or equal to 1"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"weight_decay": -1.0}, "greater than or equal to 0"),
        ({"gamma_l1": -1.0}, "greater than or equal to 0"),
        ({"patience": 0}, "greater than or equal to 1"),
        ({"optimizer": "sdg"}, "'sgd' or 'adam'"),
        ({"schedule": "step"}, r"milestones must be given with the schedule 'step'"),
        ({"milestones": (1,)}, r"with no other, got \[1\] with 'cosine'"),
        ({"gamma": 0.5}, "belongs to 'step'"),
        ({"optimizer": "adam", "momentum": 0.5}, "with the optimizer 'adam', got 0.5"),
        ({"schedule": "step", "milestones": (3, 2)}, r"must rise.*got \[3, 2\]"),
        ({"schedule": "step", "milestones": (5,)}, "before the last of 5 epochs"),
        ({"schedule": "step", "milestones": (0, 2)}, "greater than or equal to 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        Training(**{"epochs": 5, **settings})


@pytest.mark.parametrize("settings", [{"weight": 1.5}, {"temperature": 0.0}, {"alpha": 1.0}])
def test_wrong_distillation_is_refused(settings):
    with pytest.raises(pydantic.ValidationError):
        Distillation(**settings)


def test_settings_round_trip_as_json():
    training = Training(
        epochs=9, schedule="step", milestones=(2, 4), distill=Distillation(weight=0.7), patience=3
    )
    text = json.dumps(fields_of(training))
    assert pydantic.TypeAdapter(Training).validate_json(text) == training


def test_needs_follow_the_settings():
    assert Training(epochs=1).needs == Needs.TRAINING
    assert Training(epochs=1, patience=1).needs == Needs.TRAINING | Needs.VALIDATION
    assert Training(epochs=1, distill=Distillation()).needs == Needs.TRAINING | Needs.TEACHER
