"""Patients, studies and slices by split, wherever they are stored.

A set can be seen with other splits, or with fewer references, than the manifest says:
such a *view* is an object of its own and rewrites nothing.
"""

import abc
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.labels import TASKS, tissues_without
from tfrecords_tools.manifest import Manifest, PatientEntry, total_of
from tfrecords_tools.splits import SPLITS
from tfrecords_tools.study import Slice, Study


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StudySet(abc.ABC):
    """What all record sets have in common, as a folder or as one file.

    Attributes:
        path: the folder or file that it was opened from.
        manifest: what is stored, whatever the view.
        sha256: checksum of the manifest, and by it of all that is stored.
        members: the patients of the view, sorted by key, with split and references as
            the view shows them.
    """

    path: Path
    manifest: Manifest
    sha256: str
    members: tuple[PatientEntry, ...]

    @abc.abstractmethod
    def _stored_slices(self, stored_splits: Collection[str]) -> Iterator[Slice]:
        """The slices of splits of the manifest, in the order in which they lie."""

    @property
    def source(self) -> str:
        """Name of the source module."""
        return self.manifest.source

    def entries(self, split: str) -> list[PatientEntry]:
        """The patients of a split, sorted by key."""
        _check_split(split)
        return [patient for patient in self.members if patient.split == split]

    def patients(self, split: str) -> list[str]:
        """The patient keys of a split, sorted."""
        return [patient.patient_key for patient in self.entries(split)]

    def totals(self, split: str) -> dict[str, int]:
        """The `patients`, `studies`, `slices` and patients `with_scar` of a split."""
        return total_of(self.entries(split))

    @property
    def assignment(self) -> dict[str, str]:
        """The split of each patient key, in sorted order of the keys."""
        return {patient.patient_key: patient.split for patient in self.members}

    @property
    def has_scar(self) -> dict[str, bool]:
        """For each patient key whether the reference shows scar."""
        return {patient.patient_key: patient.has_scar for patient in self.members}

    @property
    def without_reference(self) -> frozenset[str]:
        """The keys of the patients without a reference of any task."""
        return frozenset(
            p.patient_key for p in self.members if not any(p.labelled.values())
        )

    def can_measure(self, split: str) -> bool:
        """Whether a split has a patient with a reference."""
        return not self.without_reference.issuperset(self.patients(split))

    def with_splits(self, assignment: Mapping[str, str]) -> Self:
        """The same patients in other splits; who is not named is left out.

        Args:
            assignment: the split of each patient key.

        Raises:
            RefusedError: for a patient that is not here, or an unknown split.
        """
        self._check_members(assignment)
        for split in set(assignment.values()):
            _check_split(split)
        members = tuple(
            dataclasses.replace(patient, split=assignment[patient.patient_key])
            for patient in self.members
            if patient.patient_key in assignment
        )
        return dataclasses.replace(self, members=members)

    def without_labels(self, task: str, patients: Collection[str]) -> Self:
        """The same patients, some of them without their reference of a task.

        It is missing everywhere: the slices do not count as labelled, the label map
        does not show it (see `tissues_without`), and the totals count no scar.

        Args:
            task: the task that loses references.
            patients: the keys of the patients that lose theirs.

        Raises:
            RefusedError: for a patient that is not here, or an unknown task.
        """
        if task not in TASKS:
            raise RefusedError("task", "CONFIG", f"expected {[*TASKS]}, got {task}")
        self._check_members(patients)
        members = tuple(
            _without_label(patient, task)
            if patient.patient_key in patients
            else patient
            for patient in self.members
        )
        return dataclasses.replace(self, members=members)

    @property
    def view(self) -> dict[str, str]:
        """How the view differs from the manifest, for fingerprints; empty if not."""
        stored = {
            patient.patient_key: patient.split for patient in self.manifest.patients
        }
        differences = {}
        if self.assignment != stored:
            differences["splits"] = _fingerprint([*self.assignment.items()])
        for task in TASKS:
            if keys := self._hidden_of(task):
                differences[f"without {task}"] = _fingerprint(keys)
        return differences

    def slices(self, split: str) -> Iterator[Slice]:
        """The slices of a split, one in memory at a time.

        By split of the manifest, patient, study and place in the stack.
        """
        keys, sifted = frozenset(self.patients(split)), self._is_sifted(split)
        for slice_ in self._stored_slices(self._stored_splits(split)):
            if not sifted or slice_.patient_key in keys:
                yield self._shown(slice_)

    def studies(self, split: str) -> Iterator[Study]:
        """The studies of a split, one in memory at a time; see `slices`."""
        by_study = itertools.groupby(
            self.slices(split), key=lambda s: (s.patient_key, s.study_key)
        )
        for _, slices in by_study:
            yield _study(list(slices))

    def _stored_splits(self, split: str) -> set[str]:
        """The splits of the manifest in which patients of `split` are stored."""
        keys = set(self.patients(split))
        stored = self.manifest.patients
        return {patient.split for patient in stored if patient.patient_key in keys}

    def _is_sifted(self, split: str) -> bool:
        """Whether other patients are stored together with those of `split`."""
        stored_splits = self._stored_splits(split)
        stored = sum(
            patient.split in stored_splits for patient in self.manifest.patients
        )
        return stored > len(self.patients(split))

    @cached_property
    def _hidden(self) -> dict[str, frozenset[str]]:
        """For each patient who lost references the tasks that they were of."""
        stored = {patient.patient_key: patient for patient in self.manifest.patients}
        hidden = {
            patient.patient_key: frozenset(
                task
                for task, slices in stored[patient.patient_key].labelled.items()
                if slices > patient.labelled[task]
            )
            for patient in self.members
        }
        return {key: tasks for key, tasks in hidden.items() if tasks}

    def _hidden_of(self, task: str) -> list[str]:
        return [key for key, tasks in self._hidden.items() if task in tasks]

    def _shown(self, slice_: Slice) -> Slice:
        hidden = self._hidden.get(slice_.patient_key)
        if hidden is None:
            return slice_
        return dataclasses.replace(
            slice_,
            labelled=slice_.labelled - hidden,
            label_map=tissues_without(hidden)[slice_.label_map],
        )

    def _check_members(self, keys: Iterable[str]) -> None:
        unknown = sorted(set(keys) - {patient.patient_key for patient in self.members})
        if unknown:
            reason = f"{len(unknown)} patients are not here, such as {unknown[0]!r}"
            raise RefusedError(self.path, "CONFIG", reason)


def _without_label(patient: PatientEntry, task: str) -> PatientEntry:
    labelled = patient.labelled | {task: 0}
    has_scar = patient.has_scar and task != "scar"
    return dataclasses.replace(patient, labelled=labelled, has_scar=has_scar)


def _fingerprint(items: list) -> str:
    digest = hashlib.sha256(json.dumps(items).encode()).hexdigest()
    return f"{len(items)} patients, {digest[:16]}"


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise RefusedError("split", "CONFIG", f"expected one of {SPLITS}, got {split}")


def _study(slices: list[Slice]) -> Study:
    first = slices[0]
    if [s.index for s in slices] != list(range(first.slice_count)):
        reason = f"its {first.slice_count} slices are not all there, in order"
        raise RefusedError(first.study_key, "CORRUPT", reason)
    return Study(
        patient_key=first.patient_key,
        study_key=first.study_key,
        source=first.source,
        pixels=np.stack([s.pixels for s in slices]),
        label_map=np.stack([s.label_map for s in slices]),
        labelled=tuple(s.labelled for s in slices),
        affine=first.affine,
    )
