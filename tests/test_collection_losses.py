"""LSGAN, WGAN, InfoGAN, BEGAN, VAE and VAE-GAN: each loss against a closed form, each player against autograd."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limner.data.loader import Loader
from limner.errors import LimnerError
from limner.latents import Categorical, Gaussian, Labels, Uniform
from limner.models import began, infogan, vae
from limner.models.base import Model
from limner.models.began import BEGAN, BEGANConfig
from limner.models.infogan import InfoGAN, InfoGANConfig
from limner.models.lsgan import LSGAN, LSGANConfig
from limner.models.vae import VAE, VAEConfig
from limner.models.vae_gan import VAEGAN, VAEGANConfig, unlikeness
from limner.models.wgan import WGAN, WGANConfig
from limner.training.distributed import World
from limner.training.trainer import Recipe, Trainer
from limner.types import Batch, Draws
from test_losses import Constant, Mean, batch_of, sigmoid, softplus

LABELS = Labels(("Male", "Smiling"), np.array([[1, 0], [0, 1], [0, 0], [0, 0]], dtype=bool))
MALE_SHARE = 0.25


def pictures(*values: float) -> torch.Tensor:
    """One 2² picture of each value."""
    return torch.stack([torch.full((3, 2, 2), value, dtype=torch.float64) for value in values])


# --- LSGAN ----------------------------------------------------------------------------------------------------------


def lsgan(fake: float, scale: float = 1.0, **codes: float) -> LSGAN:
    model = LSGAN(LSGANConfig(latent_dim=4, width=4, **codes), 16)
    model.generator, model.discriminator = Constant(fake), Mean(scale)
    return model


def test_lsgan_losses():
    model = lsgan(0.25, 2.0, fake_code=-0.5, real_code=1.5, wanted_code=0.75)
    loss, logs = model.discriminator_loss(batch_of(pictures(0.5, -1.0)))
    reals = ((1.0 - 1.5) ** 2 + (-2.0 - 1.5) ** 2) / 2
    assert float(loss) == pytest.approx(reals / 2 + (0.5 + 0.5) ** 2 / 2, abs=1e-12)
    assert float(logs["real"]) == pytest.approx(-0.5)
    assert float(logs["fake"]) == pytest.approx(0.5)
    loss, _ = model.generator_loss(batch_of(pictures(0.0)))
    assert float(loss) == pytest.approx((0.5 - 0.75) ** 2 / 2, abs=1e-12)


def test_lsgan_calls_reals_one_and_fakes_minus_one():
    """A discriminator that says 1 of reals and -1 of fakes is done; one that has them turned round is not."""
    right, wrong = lsgan(-1.0), lsgan(1.0)
    assert float(right.discriminator_loss(batch_of(pictures(1.0)))[0]) == 0
    assert float(wrong.discriminator_loss(batch_of(pictures(-1.0)))[0]) == pytest.approx(4.0)
    assert float(right.generator_loss(batch_of(pictures(1.0)))[0]) == pytest.approx(0.5), "it wants 0 said of its own"


# --- WGAN -----------------------------------------------------------------------------------------------------------


def test_wgan_losses_have_their_signs():
    model = WGAN(WGANConfig(latent_dim=4, width=4), 16)
    model.generator, model.critic = Constant(-0.25), Mean(2.0)
    loss, logs = model.critic_loss(batch_of(pictures(0.5, 1.0)))
    assert float(loss) == pytest.approx(-0.5 - 1.5, abs=1e-12)
    assert float(logs["distance"]) == pytest.approx(2.0, abs=1e-12)
    loss, _ = model.generator_loss(batch_of(pictures(0.0)))
    assert float(loss) == pytest.approx(0.5, abs=1e-12)


def make_trainer(model: Model, dataset, images: int = 8) -> Trainer:
    names = model.labels.names
    loader = Loader(dataset, seed=0, device=torch.device("cpu"), dtype=torch.float64, attributes=names, mirror=False)
    return Trainer(model.double(), loader, Recipe(batch_size=images), World())


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_wgan_weights_are_in_their_box_after_every_critic_step(tiny_dataset, optimizer):
    torch.manual_seed(0)
    config = WGANConfig(latent_dim=4, width=4, clip=0.02, learning_rate=1e-2, optimizer=optimizer, critic_steps=2)
    trainer = make_trainer(WGAN(config, 16), tiny_dataset)
    model = trainer.model
    assert max(float(p.abs().max()) for p in model.critic.parameters()) > 0.02
    generator = [p.clone() for p in model.generator.parameters()]
    trainer.update(trainer.phases[0], 0, 8, 16)
    sizes = [float(p.abs().max()) for p in model.critic.parameters()]
    assert max(sizes) == pytest.approx(0.02), "the largest are at the edge, none beyond"
    assert all(torch.equal(p, q) for p, q in zip(generator, model.generator.parameters(), strict=True))
    assert isinstance(trainer.optimizers["critic"], torch.optim.RMSprop if optimizer == "rmsprop" else torch.optim.Adam)


# --- InfoGAN --------------------------------------------------------------------------------------------------------


def test_infogan_reads_categorical_codes_by_softmax():
    part = Categorical("category_1", 4)
    code = torch.eye(4, dtype=torch.float64)[[2, 0]]
    answer = torch.tensor([[0.0, 0, math.log(3), 0], [0, 0, 0, 0]], dtype=torch.float64)
    likelihood = infogan.log_likelihood(part, answer, code)
    assert likelihood.tolist() == pytest.approx([math.log(3 / 6), math.log(1 / 4)])
    assert infogan.entropy(part) == pytest.approx(math.log(4))


def test_infogan_reads_binary_codes_by_their_own_frequencies():
    """A Q that says each attribute's share whatever it sees knows nothing: the bound is 0."""
    model = InfoGAN(InfoGANConfig(latent_dim=4, width=4, codes="attributes"), 16, LABELS)
    (part,) = [model.latents.part(name) for name in model.code_parts]
    everyone = torch.tensor(LABELS.rows, dtype=torch.float64)
    share = everyone.mean(dim=0)
    by_share = (share / (1 - share)).log().expand(4, 2)
    latents = torch.cat([torch.zeros(4, 4, dtype=torch.float64), everyone], dim=1)
    assert float(model.information(by_share, latents)["codes"]) == pytest.approx(0, abs=1e-12)
    certain = (everyone * 2 - 1) * 50
    both = 2 * -(MALE_SHARE * math.log(MALE_SHARE) + (1 - MALE_SHARE) * math.log(1 - MALE_SHARE))
    assert float(model.information(certain, latents)["codes"]) == pytest.approx(both, abs=1e-9)
    assert infogan.outputs(part) == 2


def test_infogan_reads_continuous_codes_by_a_gaussian():
    part = Uniform("continuous_1", 1)
    code = torch.tensor([[0.5], [-0.25]], dtype=torch.float64)
    answer = torch.tensor([[0.1, math.log(4)], [-0.25, 0.0]], dtype=torch.float64)
    expected = [-0.5 * (0.4**2 / 4 + math.log(4) + math.log(2 * math.pi)), -0.5 * math.log(2 * math.pi)]
    assert infogan.log_likelihood(part, answer, code).tolist() == pytest.approx(expected)
    assert infogan.entropy(part) == pytest.approx(math.log(2))
    surest = infogan.log_likelihood(part, torch.tensor([[0.5, -99.0]], dtype=torch.float64), code[:1])
    assert float(surest) == pytest.approx(3 - 0.5 * math.log(2 * math.pi)), "no code is read without any error"


def test_infogan_losses():
    config = InfoGANConfig(
        latent_dim=4, width=4, categories=1, ways=3, continuous=1, information_weight=0.7, continuous_weight=0.2
    )
    torch.manual_seed(0)
    model = InfoGAN(config, 16).double().train()
    assert model.code_parts == ("category_1", "continuous_1")
    n = 6
    latents = model.latents.sample(n, torch.Generator().manual_seed(0)).double()
    images = torch.rand(n, 3, 16, 16, dtype=torch.float64) * 2 - 1
    batch = Batch(images, latents, Draws(torch.Generator(), n, 0, n, dtype=torch.float64))
    fakes = model.generator(latents)
    features = model.discriminator.features(fakes)
    answers = model.reader(features)
    fooled = -model.discriminator(fakes).sigmoid().log().mean()
    category = F.cross_entropy(answers[:, :3], latents[:, 4:7].argmax(dim=1))
    spread = nn.GaussianNLLLoss(full=True)(answers[:, 3:4], latents[:, 7:], answers[:, 4:].exp())
    loss, logs = model.generator_loss(batch)
    bound = (math.log(3) - category) + (math.log(2) - spread)
    assert float(logs["information"]) == pytest.approx(float(bound), abs=1e-9)
    weighted = 0.7 * (math.log(3) - category) + 0.2 * (math.log(2) - spread)
    assert float(loss) == pytest.approx(float(fooled - weighted), abs=1e-9)
    loss, _ = model.discriminator_loss(batch)
    real, fake = model.discriminator(images), model.discriminator(fakes)
    assert float(loss) == pytest.approx(float(-real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()))


def test_infogans_codes_are_asked_for_in_words():
    with pytest.raises(LimnerError, match="--codes attributes needs a dataset with attributes"):
        InfoGAN(InfoGANConfig(codes="attributes"), 16)
    with pytest.raises(LimnerError, match="no codes"):
        InfoGAN(InfoGANConfig(categories=0), 16)
    with pytest.raises(LimnerError, match="ways is 1"):
        InfoGAN(InfoGANConfig(ways=1), 16)


# --- every player gets its own loss's gradient and nothing else ------------------------------------------------------


def small_vae_gan() -> VAEGAN:
    torch.manual_seed(3)
    return VAEGAN(VAEGANConfig(latent_dim=4, width=4, likeness_weight=0.3), 16, TWO)


TWO = Labels(("bright", "warm"), np.array([[1, 0], [0, 1]], dtype=bool))


def small_infogan() -> InfoGAN:
    torch.manual_seed(3)
    return InfoGAN(InfoGANConfig(latent_dim=4, width=4, codes="attributes"), 16, TWO)


def vae_gan_losses(model: VAEGAN, batch: Batch) -> dict[str, torch.Tensor]:
    """The three losses written out once more, from one graph of all networks."""
    x, a = batch.images, batch.attributes
    mean, log_variance = model.encoder(x, a).chunk(2, dim=1)
    z = mean + (0.5 * log_variance).exp() * batch.draws.normal(4)
    again, fakes = model.decoder(torch.cat([z, a], dim=1)), model.decoder(batch.latents)
    seen, remade = model.discriminator.features(x, a), model.discriminator.features(again, a)
    likeness = 0.5 * (seen - remade).square().sum(dim=(1, 2, 3)).mean()
    prior = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    said = [model.discriminator(pictures, a).sigmoid() for pictures in (x, again, fakes)]
    return {
        "encoder": prior.sum(dim=1).mean() + likeness,
        "decoder": 0.3 * likeness - said[1].log().mean() - said[2].log().mean(),
        "discriminator": -said[0].log().mean() - (1 - said[1]).log().mean() - (1 - said[2]).log().mean(),
    }


def infogan_losses(model: InfoGAN, batch: Batch) -> dict[str, torch.Tensor]:
    fakes = model.generator(batch.latents)
    real, fake = model.discriminator(batch.images).sigmoid(), model.discriminator(fakes).sigmoid()
    answers = model.reader(model.discriminator.features(fakes))
    read = F.binary_cross_entropy_with_logits(answers, batch.latents[:, 4:], reduction="none").sum(dim=1).mean()
    return {
        "discriminator": -real.log().mean() - (1 - fake).log().mean(),
        "generator": -fake.log().mean() + read,
    }


@pytest.mark.parametrize(
    ("make", "losses"), [(small_vae_gan, vae_gan_losses), (small_infogan, infogan_losses)], ids=["vae-gan", "infogan"]
)
def test_each_players_step_is_its_own_losss_gradient_and_nothing_else(tiny_dataset, make, losses):
    """The gradients of a whole iteration, phase after phase, against autograd of the loss written out apart.

    What one phase left behind in another's gradients (InfoGAN's Q, VAE-GAN's shared graph) would show.
    """
    trainer = make_trainer(make(), tiny_dataset)
    for iteration in range(2):
        for phase in trainer.phases:
            start = 8 * iteration
            for parameter in trainer.model.parameters():
                parameter.requires_grad_(True)
            running = {key: value.clone() for key, value in trainer.model.state_dict().items()}
            batch = trainer.batch(phase, start, 8, 16, 0, 8)
            trained = trainer.trained[phase.name]
            loss = losses(trainer.model, batch)[phase.name]
            expected = torch.autograd.grad(loss, list(trained.values()))
            trainer.model.load_state_dict(running)
            taken = watch_step(trainer, phase.name)
            trainer.update(phase, start, 8, 16)
            assert taken.keys() == trained.keys()
            for (name, found), wanted in zip(taken.items(), expected, strict=True):
                scale = max(float(wanted.abs().max()), 1e-3)
                assert float((found - wanted).abs().max()) <= 1e-6 * scale, f"{phase.name}: {name}"


def watch_step(trainer: Trainer, phase: str) -> dict[str, torch.Tensor]:
    """The gradients that the phase's optimizer is given at its next step."""
    taken: dict[str, torch.Tensor] = {}
    optimizer = trainer.optimizers[phase]

    def look(*ignored: object) -> None:
        taken.update({name: p.grad.clone() for name, p in trainer.trained[phase].items()})
        handle.remove()

    handle = optimizer.register_step_pre_hook(look)
    return taken


# --- BEGAN ----------------------------------------------------------------------------------------------------------


class Draws07(nn.Module):
    """An autoencoder that draws 0.7 of every picture, so that L(v) = 0.3 |v|."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, images, attributes=None):
        return images * self.scale


def rigged_began(fake: float, **settings: float) -> BEGAN:
    model = BEGAN(BEGANConfig(latent_dim=4, width=4, **settings), 16).double()
    model.generator, model.discriminator = Constant(fake), Draws07()
    return model


def test_began_losses():
    model = rigged_began(0.5)
    model.k.fill_(0.4)
    loss, logs = model.discriminator_loss(batch_of(pictures(1.0, -0.6)))
    assert float(logs["real"]) == pytest.approx(0.3 * 0.8, abs=1e-12)
    assert float(logs["fake"]) == pytest.approx(0.3 * 0.5, abs=1e-12)
    assert float(loss) == pytest.approx(0.24 - 0.4 * 0.15, abs=1e-12)
    loss, _ = model.generator_loss(batch_of(pictures(0.0)))
    assert float(loss) == pytest.approx(0.15, abs=1e-12)


def test_began_k_moves_by_the_balance_and_stays_in_its_range():
    model = rigged_began(0.5, gamma=0.75, k_rate=0.5)
    real, fake = 0.24, 0.15

    def step(real: float, fake: float) -> None:
        model.remember_real({"real": torch.tensor(real, dtype=torch.float64)})
        model.balance({"loss": torch.tensor(fake, dtype=torch.float64)})

    step(real, fake)
    assert float(model.k) == pytest.approx(0.5 * (0.75 * 0.24 - 0.15), abs=1e-12)
    assert float(model.measure) == pytest.approx(0.24 + 0.03, abs=1e-12)
    step(0.0, 1.0)
    assert float(model.k) == 0, "never below 0"
    assert float(model.measure) == pytest.approx(1.0)
    for _ in range(3):
        step(2.0, 0.0)
    assert float(model.k) == 1, "never above 1"


def test_began_keeps_its_balance_across_a_checkpoint(tiny_dataset):
    torch.manual_seed(0)
    trainer = make_trainer(BEGAN(BEGANConfig(latent_dim=4, width=4, k_rate=0.1), 16), tiny_dataset)
    for _ in range(3):
        trainer.iteration()
    assert 0 < float(trainer.model.k) < 1
    state = trainer.model.state_dict()
    again = BEGAN(BEGANConfig(latent_dim=4, width=4, k_rate=0.1), 16).double()
    again.load_state_dict(state)
    for name in ("k", "measure", "mean_measure", "best_measure", "best_images", "rate", "real"):
        assert torch.equal(getattr(again, name), getattr(trainer.model, name)), name
    assert int(trainer.model.last_images) == 16, "the third iteration began there"


def test_began_halves_its_learning_rate_where_the_measure_stalls(tiny_dataset):
    model = rigged_began(0.5, stall_kimg=10.0)
    rates = []
    for thousand in range(100):
        model.set_images_seen(1000 * thousand)
        falling = 0.5 * 0.9**thousand if thousand < 10 else 0.2
        model.remember_real({"real": torch.tensor(falling)})
        model.balance({"loss": torch.tensor(falling / 2)})
        rates.append(model.learning_rate_factor())
    assert rates[10] == 1, "not while it falls"
    assert rates[-1] <= 0.25
    assert all(after in (before, before / 2) for before, after in itertools.pairwise(rates))
    steady = rigged_began(0.5, stall_kimg=0.0)
    for thousand in range(100):
        steady.set_images_seen(1000 * thousand)
        steady.remember_real({"real": torch.tensor(0.2)})
        steady.balance({"loss": torch.tensor(0.1)})
    assert steady.learning_rate_factor() == 1, "0 means never"


def test_began_learns_at_the_rate_it_has_come_to(tiny_dataset):
    torch.manual_seed(0)
    trainer = make_trainer(BEGAN(BEGANConfig(latent_dim=4, width=4, learning_rate=1e-3), 16), tiny_dataset)
    trainer.model.rate.fill_(0.25)
    trainer.iteration()
    assert [o.param_groups[0]["lr"] for o in trainer.optimizers.values()] == pytest.approx([2.5e-4, 2.5e-4])


def test_began_skip_connections_repeat_the_first_tensor_at_every_level():
    torch.manual_seed(0)
    decoder = began.Decoder(4, 6, 32, skip_connections=True)
    plain = began.Decoder(4, 6, 32, skip_connections=False)
    assert [level[0].in_channels for level in decoder.levels] == [6, 12, 12]
    assert [level[0].in_channels for level in plain.levels] == [6, 6, 6]
    seen = []
    decoder.levels[2].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    codes = torch.randn(2, 4)
    decoder(codes)
    start = decoder.first(codes).view(2, 6, 8, 8)
    torch.testing.assert_close(seen[0][:, 6:, ::4, ::4], start)
    torch.testing.assert_close(seen[0][:, 6:, 3::4, 3::4], start)


# --- VAE ------------------------------------------------------------------------------------------------------------


def test_a_draw_has_the_deviation_that_the_encoder_gave():
    """log σ² = 0 is σ = 1 and log σ² = 2 is σ = e: not half of σ², which some published code takes."""
    for log_variance, deviation in ((0.0, 1.0), (2.0, math.e), (-4.0, math.exp(-2))):
        given = torch.full((3, 5), log_variance, dtype=torch.float64)
        z = vae.draw(torch.full((3, 5), 0.25, dtype=torch.float64), given, lambda d: torch.full((3, d), -2.0))
        assert z.flatten().tolist() == pytest.approx([0.25 - 2 * deviation] * 15)


def test_kl_divergence_is_of_each_row_and_exact():
    mean, log_variance = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    one = torch.distributions.Normal(mean, (log_variance / 2).exp())
    exact = torch.distributions.kl_divergence(one, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(vae.kl_divergence(mean, log_variance), exact)
    assert float(vae.kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3))) == 0


class Believes(nn.Module):
    """An encoder of one belief whatever it sees."""

    def __init__(self, mean: float, log_variance: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([mean, log_variance], dtype=torch.float64))

    def forward(self, images, attributes=None):
        return self.values.repeat_interleave(4).expand(len(images), 8)


class DrawsMean(nn.Module):
    """A decoder whose picture is tanh of the mean of z everywhere."""

    def before_tanh(self, latents):
        return latents.mean(dim=1)[:, None, None, None].expand(len(latents), 3, 2, 2)

    def forward(self, latents):
        return self.before_tanh(latents).tanh()


@pytest.mark.parametrize("kl_weight", [1.0, 0.25])
def test_vae_loss_with_bernoulli_pixels(kl_weight):
    model = VAE(VAEConfig(latent_dim=4, width=4, kl_weight=kl_weight), 16)
    model.encoder, model.decoder = Believes(0.3, -80.0), DrawsMean()  # a belief without doubt: z = μ
    loss, logs = model.loss(batch_of(pictures(1.0, -1.0, 0.5)))
    likely = sigmoid(0.6)  # (tanh(0.3) + 1) / 2
    shares = (1.0, 0.0, 0.75)
    surprise = sum(-12 * (s * math.log(likely) + (1 - s) * math.log(1 - likely)) for s in shares) / 3
    kl = -0.5 * 4 * (1 - 80 - 0.09 - math.exp(-80))
    assert float(logs["reconstruction"]) == pytest.approx(surprise, abs=1e-9)
    assert float(logs["kl"]) == pytest.approx(kl, abs=1e-9)
    assert float(loss) == pytest.approx((surprise + kl_weight * kl) / 12, abs=1e-9)


def test_vae_loss_with_gaussian_pixels_and_the_spread_it_should_learn():
    model = VAE(VAEConfig(latent_dim=4, width=4, likelihood="gaussian"), 16).double()
    model.encoder, model.decoder = Believes(0.0, -80.0), DrawsMean()
    images = pictures(0.5, -0.5)
    _, logs = model.loss(batch_of(images))
    expected = -torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(0.5, dtype=torch.float64)) * 12
    assert float(logs["reconstruction"]) == pytest.approx(float(expected), abs=1e-9)
    with torch.no_grad():
        # The pictures are 0.5 off, so this is the best there is.
        model.spread.scaled.fill_(math.log(0.5) / vae.SPREAD_SCALE)
    loss, _ = model.loss(batch_of(images))
    loss.backward()
    assert float(model.spread.scaled.grad) == pytest.approx(0, abs=1e-9)
    trained = {id(p) for phase in model.phases() for module in phase.trains for p in module.parameters()}
    assert id(model.spread.scaled) in trained


def test_vae_draws_anew_for_every_row_and_dimension():
    model = VAE(VAEConfig(latent_dim=4, width=4), 16)
    model.encoder = Believes(0.0, 0.0)
    seen = []

    class Watches(DrawsMean):
        def before_tanh(self, latents):
            seen.append(latents)
            return super().before_tanh(latents)

    model.decoder = Watches()
    model.loss(batch_of(torch.zeros(500, 3, 2, 2, dtype=torch.float64)))
    (z,) = seen
    assert float(z.std()) == pytest.approx(1.0, abs=0.05)
    assert float(z.mean(dim=1).std()) == pytest.approx(0.5, abs=0.05), "columns are independent"


# --- VAE-GAN --------------------------------------------------------------------------------------------------------


class MeanWithFeatures(nn.Module):
    """A discriminator whose feature and logit are scale x (mean of the picture)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def features(self, images, attributes=None):
        return (images.mean(dim=(1, 2, 3)) * self.scale)[:, None, None, None]

    def judge(self, features):
        return features.flatten()

    def forward(self, images, attributes=None):
        return self.judge(self.features(images))


def test_vae_gan_losses():
    model = VAEGAN(VAEGANConfig(latent_dim=4, width=4, likeness_weight=0.1), 16)
    model.encoder, model.decoder, model.discriminator = Believes(0.3, -80.0), DrawsMean(), MeanWithFeatures(2.0)
    batch = batch_of(pictures(0.5, -1.0))  # its latents are 0, so that x_p is a picture of 0
    again = 2 * math.tanh(0.3)
    kl = -0.5 * 4 * (1 - 80 - 0.09 - math.exp(-80))
    likeness = ((1.0 - again) ** 2 + (-2.0 - again) ** 2) / 2 / 2
    loss, logs = model.encoder_loss(batch)
    assert float(logs["likeness"]) == pytest.approx(likeness, abs=1e-9)
    assert float(loss) == pytest.approx(kl + likeness, abs=1e-9)
    loss, _ = model.decoder_loss(batch)
    assert float(loss) == pytest.approx(0.1 * likeness + softplus(-again) + softplus(0.0), abs=1e-9)
    loss, logs = model.discriminator_loss(batch)
    real = (softplus(-1.0) + softplus(2.0)) / 2
    assert float(loss) == pytest.approx(real + softplus(again) + softplus(0.0), abs=1e-9)
    assert float(logs["reconstructed"]) == pytest.approx(sigmoid(again))
    assert float(logs["fake"]) == pytest.approx(0.5)


def test_unlikeness_is_half_the_squared_distance_of_each_picture():
    a, b = torch.zeros(2, 3, 2, 2), torch.ones(2, 3, 2, 2)
    b[1] = 2
    assert unlikeness(a, b).tolist() == [6.0, 24.0]


def test_vae_gans_latents_are_gaussian_as_its_prior():
    assert isinstance(small_vae_gan().latents.part("z"), Gaussian)
