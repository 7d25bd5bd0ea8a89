"""Is it the same person all through the turn? The identity that a probe reads, from frame to frame of a turned face.

The probe's embedding e_ik of face i at angle k has length 1, and the likeness of two images is the cosine of theirs.

    value     = mean over faces i and pairs of frames k < l of  e_ik · e_il
    different = the same of e_ik · e_jl, with j another face: what chance gives, or more where faces are much alike

The angles of two frames are those of two views from the same range, as in the pairs of real images on which the
probe's own figures were taken; these stand beside. A model that ignores the pose paints one picture over and over,
whose likeness to itself is 1: read this beside `turned_degrees` and `pose_control`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from limner.errors import LimnerError
from limner.metrics.card import Measurement
from limner.metrics.probe.figures import chance_below
from limner.metrics.probe.readers import Reads
from limner.metrics.turns import TurnReadings

OTHER_FACES = 8
"""that each face is compared with, at most"""


def identity_constancy(readings: TurnReadings, probe: Reads) -> Measurement:
    """Of the turns in yaw.

    `values` holds `different`; `probe_same` and `probe_different` (both likenesses of real images that the probe has
    never seen, from its own figures); `frontal` (of all frames to that in the middle) and `ends` (of the first to the
    last); `same_person` and `different_same_person` (shares of pairs that the probe takes for one person, at its own
    threshold); `auc` (chance that two frames of a face are more alike than frames of two, a tie counting half) and
    `probe_auc`; and, where the probe reads pose, `turned_degrees` (mean range of the yaw read).

    Raises:
        LimnerError: the probe reads no identity, frames are missing, or there are fewer than two faces.
    """
    figure = probe.accuracy.identity
    if figure is None:
        raise LimnerError(
            "identity_constancy: this probe reads no identity; train one on a dataset with several views of a person"
        )
    turns, yaw = readings.turns, readings.turns.axes[0]
    if turns.count < 2:
        raise LimnerError("identity_constancy: one face cannot be told from others; turn at least two")
    embedding = readings.embeddings(yaw)
    same, different = likenesses(embedding)
    middle = embedding.shape[1] // 2
    others = [k for k in range(embedding.shape[1]) if k != middle]
    pose = None if probe.accuracy.pose is None else readings.degrees(yaw)
    turned = {} if pose is None else {"turned_degrees": float((pose.amax(1) - pose.amin(1)).mean())}
    return Measurement(
        value=float(same.mean()),
        values={
            "different": float(different.mean()),
            "probe_same": 1 - figure.same_distance,
            "probe_different": 1 - figure.different_distance,
            "frontal": float((embedding[:, others] * embedding[:, middle : middle + 1]).sum(2).mean()),
            "ends": float((embedding[:, 0] * embedding[:, -1]).sum(1).mean()),
            "same_person": float((1 - same < figure.threshold).double().mean()),
            "different_same_person": float((1 - different < figure.threshold).double().mean()),
            "auc": chance_below(1 - same, 1 - different),
            "probe_auc": figure.auc,
            **turned,
        },
        settings={
            "yaw": f"{yaw.degrees[0]:g} to {yaw.degrees[-1]:g} degrees, {len(yaw.degrees)} frames",
            "other_faces": min(OTHER_FACES, turns.count - 1),
        },
        extractor=probe.name,
        extractor_sha256=probe.sha256,
        count_reals=0,
        count_fakes=turns.count,
    )


def likenesses(embedding: Float[Tensor, "n k e"]) -> tuple[Float[Tensor, "p"], Float[Tensor, "q"]]:
    """Of all pairs of frames of one face, and at the same pairs of angles of each face and those drawn after it."""
    first, second = torch.triu_indices(embedding.shape[1], embedding.shape[1], offset=1)
    same = (embedding[:, first] * embedding[:, second]).sum(2)
    shifts = range(1, min(OTHER_FACES, len(embedding) - 1) + 1)
    different = [(embedding[:, first] * embedding.roll(-shift, 0)[:, second]).sum(2).flatten() for shift in shifts]
    return same.flatten(), torch.cat(different)
