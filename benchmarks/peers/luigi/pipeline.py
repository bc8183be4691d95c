"""The house-price job with Luigi: a task is done where its files are, whose folder is named after the parameters.

luigi --module pipeline Evaluate --local-scheduler --folder products --units 64
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import luigi

from benchmarks.peers import job


class Shared(luigi.Task):
    folder = luigi.Parameter(default="products")

    def target(self, name: str) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{self.folder}/{name}", format=luigi.format.Nop)


class Ingest(Shared):
    def output(self) -> luigi.LocalTarget:
        return self.target("raw.csv")

    def run(self) -> None:
        with self.output().temporary_path() as path:
            job.ingest(Path(path))


class Validate(Shared):
    def requires(self) -> luigi.Task:
        return self.clone(Ingest)

    def output(self) -> list[luigi.LocalTarget]:
        return [self.target("validation.json"), self.target("data-docs.html")]

    def run(self) -> None:
        found, page = job.validate(Path(self.input().path))
        for target, content in zip(self.output(), (json.dumps(found), page), strict=True):
            with target.open("w") as file:
                file.write(content.encode())


class Fitting(Shared):
    units = luigi.IntParameter(default=job.UNITS)
    epochs = luigi.IntParameter(default=job.EPOCHS)

    def target(self, name: str) -> luigi.LocalTarget:
        return super().target(f"units-{self.units}-epochs-{self.epochs}/{name}")


class CrossValidate(Fitting):
    def requires(self) -> list[luigi.Task]:
        return [self.clone(Ingest), self.clone(Validate)]

    def output(self) -> luigi.LocalTarget:
        return self.target("folds.pickle")

    def run(self) -> None:
        folds = job.cross_validate(Path(self.input()[0].path), self.units, self.epochs)
        with self.output().open("w") as file:
            pickle.dump(folds, file)


class Train(Fitting):
    def requires(self) -> list[luigi.Task]:
        return [self.clone(Ingest), self.clone(Validate)]

    def output(self) -> list[luigi.LocalTarget]:
        return [self.target("model.keras"), self.target("fitted.pickle")]

    def run(self) -> None:
        model, fitted = job.train(Path(self.input()[0].path), self.units, self.epochs)
        for target, content in zip(self.output(), (model, pickle.dumps(fitted)), strict=True):
            with target.open("w") as file:
                file.write(content)


class Evaluate(Fitting):
    def requires(self) -> list[luigi.Task]:
        return [self.clone(task) for task in (Ingest, Validate, CrossValidate, Train)]

    def output(self) -> list[luigi.LocalTarget]:
        return [self.target("evaluation.json"), self.target("report.html")]

    def run(self) -> None:
        raw, (validation, _), folds, (_, fitted) = self.input()
        kept = [pickle.loads(Path(target.path).read_bytes()) for target in (folds, fitted)]
        files = job.evaluate(Path(raw.path), json.loads(Path(validation.path).read_text()), *kept)
        for name, content in files.items():
            with self.target(name).open("w") as file:
                file.write(content)
