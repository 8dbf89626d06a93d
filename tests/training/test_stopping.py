import copy
from dataclasses import replace

import pytest
import torch

from shrinkproof.errors import CompressionError
from shrinkproof.training.settings import Training, outcome
from shrinkproof.training.stopping import Best, validation_loss

SETTINGS = Training(epochs=12, learning_rate=0.2, batch=8, schedule="constant", patience=2)


def test_best_waits_for_its_patience(net):
    best = Best(patience=2)
    over = []
    for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.5, 1.0], start=1):
        best.see(epoch, loss, net)
        over.append(best.is_over(epoch))
    assert over == [False, False, False, True, False]
    assert (best.epoch, best.loss) == (5, 1.0)


def test_weights_of_the_best_epoch_come_back(net, context):
    states = []
    settings = replace(SETTINGS, learning_rate=0.5)

    def remember(done, steps):
        if done % 4 == 0:
            states.append(copy.deepcopy(net.state_dict()))

    history = settings.run(net, context, each_step=remember)
    losses = [h["validation_loss"] for h in history]
    kept = losses.index(min(losses))
    assert [bool(h.get("kept")) for h in history] == [k == kept for k in range(len(history))]
    assert all(torch.equal(v, states[kept][k]) for k, v in net.state_dict().items())
    assert validation_loss(net, context, 8) == losses[kept]
    assert len(history) == min(12, kept + 1 + 2)


def test_a_run_that_stops_early_says_so(net, context):
    class Worse:
        """Losses that rise: the first epoch is the best."""

        name, version = "classification", 1

        def loss(self, outputs, target, *, label_smoothing=0.0):
            if not torch.is_grad_enabled():
                self.seen = getattr(self, "seen", 0) + 1
                return torch.tensor(float(self.seen))
            return outputs.square().mean()

    history = replace(SETTINGS, patience=3).run(net, replace(context, task=Worse()))
    assert len(history) == 4
    assert history[0]["kept"]
    assert outcome(history)["stopped_early"] is True
    assert outcome(history)["kept_epoch"] == 1


def test_a_run_to_the_end_says_so_too(net, context):
    history = replace(SETTINGS, epochs=2).run(net, context)
    assert outcome(history)["stopped_early"] is False


def test_validation_images_never_train(net, context):
    twin = copy.deepcopy(net)
    settings = replace(SETTINGS, epochs=3, patience=3)
    history = settings.run(net, context)
    plain = replace(settings, epochs=history.index(max(history, key=lambda h: "kept" in h)) + 1)
    replace(plain, patience=None).run(twin, context)
    assert all(torch.equal(v, twin.state_dict()[k]) for k, v in net.state_dict().items())


def test_validation_loss_is_the_mean_over_images(net, context):
    everything = validation_loss(net, context, 20)
    assert validation_loss(net, context, 7) == pytest.approx(everything, rel=1e-6)
    inputs, target = next(context.validation.batches(20))
    assert everything == pytest.approx(
        float(context.task.loss(net.eval()(inputs).detach(), target))
    )


def test_broken_validation_loss_is_an_error(net, context):
    with torch.no_grad():
        net[5].weight.fill_(float("nan"))
    with pytest.raises(CompressionError, match="validation loss must stay finite"):
        validation_loss(net, context, 8)
