"""`heads.npz` unpacked: the neutral head, its shape targets, the parts that follow it, and their textures.

Distances are decimetres in the mesh's own frame: x to the head's left, y up, z forward. Points are stored as rows
x, y, z: arrays of shape (3, n), which keeps every later step a plain, contiguous, reproducible array operation.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np
from PIL import Image

VERTEX_STEP = 1 / 2000
WEIGHT_STEP = 1 / 8192
UV_STEP = 1 / 65535
EVERYWHERE = 0.7  # share of the head that a group of targets moves, from which on it is added to all of it
REFERENCE_SPANS = np.array([1.6682, 2.3542, 2.8351], np.float32)  # x, y, z spans that part offsets were authored at

OPAQUE_TEXTURES = ("t/skin", "t/eyes", "t/teeth", "t/tongue", "t/hat")
OPPOSITES = (
    ("-decr", "-incr"),
    ("-in", "-out"),
    ("-down", "-up"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)


@dataclass(frozen=True)
class Mesh:
    """Triangles and texture coordinates of one surface.

    triangles: (3, f) vertex indices; texture_triangles: (3, f) indices into uv; uv: (2, m) in [0, 1], v upwards.
    """

    triangles: np.ndarray
    texture_triangles: np.ndarray
    uv: np.ndarray

    def keep(self, kept: np.ndarray) -> Mesh:
        """The mesh with the triangles at an index or truth array only."""
        triangles, texture_triangles = (corners[:, kept] for corners in (self.triangles, self.texture_triangles))
        return Mesh(np.ascontiguousarray(triangles), np.ascontiguousarray(texture_triangles), self.uv)

    @cached_property
    def texture_areas(self) -> np.ndarray:
        """Area (f,) of each triangle in a texture of side 1."""
        u, v = self.uv[:, self.texture_triangles]
        return np.abs((u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0])) / 2


@dataclass(frozen=True)
class Part:
    """A surface carried by the head: vertex = Σ weights[k] · head[anchors[k]] + offsets · scale, each (3, v)."""

    mesh: Mesh
    anchors: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    def compact(self) -> Part:
        """The part without the vertices that no triangle needs."""
        used, corners = np.unique(self.mesh.triangles, return_inverse=True)
        mesh = Mesh(corners.reshape(3, -1).astype(np.int32), self.mesh.texture_triangles, self.mesh.uv)
        anchors, weights, offsets = (rows.take(used, 1) for rows in (self.anchors, self.weights, self.offsets))
        return Part(mesh, anchors, weights, offsets)

    def place(self, head: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The part's vertices (3, v) on a head (3, n), `scale` (3,) from `Pack.scale`."""
        placed = self.offsets * scale[:, None]
        for anchor, weight in zip(self.anchors, self.weights, strict=True):
            carried = head.take(anchor, 1)
            carried *= weight
            placed += carried
        return placed


@dataclass(frozen=True)
class Texture:
    """colour: (3, h, w) linear light in [0, 1]; opacity: (h, w) in [0, 1], or None where it is 1."""

    colour: np.ndarray
    opacity: np.ndarray | None


@dataclass(frozen=True)
class TargetGroup:
    """Targets `members` (m,) that move the same region: their offsets (m, k) at places (k,) of the flattened head, or
    everywhere.
    """

    members: np.ndarray
    offsets: np.ndarray
    places: np.ndarray | None

    @classmethod
    def of(cls, targets: np.ndarray, members: np.ndarray) -> TargetGroup:
        """The group of `members` among all targets (t, 3, n)."""
        offsets = targets.reshape(len(targets), -1)[members]
        places = np.flatnonzero(offsets.any(0))
        if len(places) > EVERYWHERE * offsets.shape[1]:
            return cls(members, offsets, None)
        return cls(members, np.ascontiguousarray(offsets[:, places]), places)

    def add(self, flat: np.ndarray, weights: np.ndarray) -> None:
        """Add the offsets times the targets' `weights` (t,) to a flattened head (3 n,), in place."""
        own = weights.take(self.members)
        active = np.flatnonzero(own)
        if not active.size:
            return
        total = flat if self.places is None else np.zeros(len(self.places), np.float32)
        moved = np.empty_like(total)
        for member, weight in zip(active.tolist(), own.take(active), strict=True):
            total += np.multiply(self.offsets[member], weight, out=moved)
        if self.places is not None:
            flat[self.places] += total


@dataclass(frozen=True)
class Pack:
    """Everything in `heads.npz` as float32 and int32 arrays."""

    vertices: np.ndarray  # (3, n) the neutral head
    skin: Mesh
    target_index: dict[str, int]
    targets: np.ndarray  # (t, 3, n) offsets at weight 1
    span_vertices: np.ndarray  # (6,) three vertex pairs whose distances along x, z, y scale part offsets
    parts: dict[str, Part]
    textures: dict[str, Texture]
    local_pairs: tuple[tuple[str | None, str], ...]  # local targets: (name at negative weight, name at positive weight)

    def targets_named(self, names: tuple[str, ...]) -> np.ndarray:
        """Indices of the targets called `names`."""
        if names not in self._named:
            self._named[names] = np.array([self.target_index[name] for name in names])
        return self._named[names]

    @cached_property
    def _named(self) -> dict[tuple[str, ...], np.ndarray]:
        return {}

    def scale(self, head: np.ndarray) -> np.ndarray:
        """How much larger than the reference a head (3, n) is along x, y, z: (3,)."""
        along_x, along_z, along_y = (
            np.abs(head[axis, self.span_vertices[2 * pair]] - head[axis, self.span_vertices[2 * pair + 1]])
            for pair, axis in enumerate((0, 2, 1))
        )
        return np.array([along_x, along_y, along_z], np.float32) / REFERENCE_SPANS

    def morph(self, weights: np.ndarray) -> np.ndarray:
        """The head (3, n) with target `weights` (t,) added to the neutral one."""
        head = self.vertices.copy()
        for group in self._groups:
            group.add(head.ravel(), weights)
        return head

    @cached_property
    def _groups(self) -> list[TargetGroup]:
        """The targets by region, so that few vertices are added to for each."""
        regions: dict[str, list[int]] = {}
        for name, target in self.target_index.items():
            regions.setdefault(name.split("/")[0], []).append(target)
        return [TargetGroup.of(self.targets, np.array(members)) for members in regions.values()]

    def names(self, prefix: str) -> list[str]:
        """Sorted names of the parts or textures that start with `prefix`."""
        if prefix not in self._names:
            self._names[prefix] = sorted(name for name in {**self.parts, **self.textures} if name.startswith(prefix))
        return list(self._names[prefix])

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        return {}


def _opposite(name: str) -> str | None:
    for low, high in OPPOSITES:
        if name.endswith(low):
            return name.removesuffix(low) + high
    return None


def _pair_up(names: list[str]) -> tuple[tuple[str | None, str], ...]:
    local = [name for name in names if not name.startswith(("macro/", "fu/"))]
    opposite = {name: partner for name in local if (partner := _opposite(name)) in names}
    pairs: list[tuple[str | None, str]] = list(opposite.items())
    paired = {*opposite.keys(), *opposite.values()}
    return (*pairs, *((None, name) for name in local if name not in paired))


def _decode_texture(encoded: np.ndarray, mode: str) -> Texture:
    with Image.open(io.BytesIO(encoded.tobytes())) as image:
        planes = np.asarray(image.convert(mode), np.float32).transpose(2, 0, 1) / 255
    colour = np.ascontiguousarray(np.square(planes[:3]))  # stored values are the square root of light
    return Texture(colour, np.ascontiguousarray(planes[3]) if mode == "RGBA" else None)


def _decode_mesh(arrays: dict[str, np.ndarray], prefix: str) -> Mesh:
    return Mesh(
        triangles=np.ascontiguousarray(arrays[prefix + "F"].T.astype(np.int32)),
        texture_triangles=np.ascontiguousarray(arrays[prefix + "FT"].T.astype(np.int32)),
        uv=np.ascontiguousarray(arrays[prefix + "UV"].T.astype(np.float32) * np.float32(UV_STEP)),
    )


def _decode_part(arrays: dict[str, np.ndarray], prefix: str) -> Part:
    weights = arrays[prefix + "W"]
    step = WEIGHT_STEP if weights.dtype == np.int16 else 1.0
    return Part(
        mesh=_decode_mesh(arrays, prefix),
        anchors=np.ascontiguousarray(arrays[prefix + "R"].T.astype(np.int32)),
        weights=np.ascontiguousarray(weights.T.astype(np.float32) * np.float32(step)),
        offsets=np.ascontiguousarray(arrays[prefix + "O"].T.astype(np.float32)),
    )


@lru_cache(maxsize=1)
def load_pack() -> Pack:
    """The pack that ships with limner, unpacked once per process (0.3 s, 25 MB)."""
    with resources.files("limner.heads").joinpath("heads.npz").open("rb") as file, np.load(file) as archive:
        arrays = {key: archive[key] for key in archive.files}
    part_names = sorted({key.split("/")[1] for key in arrays if key.startswith("p/")})
    names = [str(name) for name in arrays["names"]]
    quantised = arrays["Dq"].transpose(0, 2, 1).astype(np.float32)
    return Pack(
        vertices=np.ascontiguousarray(arrays["V"].T.astype(np.float32) * np.float32(VERTEX_STEP)),
        skin=_decode_mesh(arrays, ""),
        target_index={name: index for index, name in enumerate(names)},
        targets=np.ascontiguousarray(quantised * arrays["Ds"][:, None, None]),
        span_vertices=arrays["SC"].astype(np.int64),
        parts={name: _decode_part(arrays, f"p/{name}/") for name in part_names},
        textures={
            key[2:]: _decode_texture(arrays[key], "RGB" if key.startswith(OPAQUE_TEXTURES) else "RGBA")
            for key in arrays
            if key.startswith("t/")
        },
        local_pairs=_pair_up(names),
    )
