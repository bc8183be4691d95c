"""The house-price job with Metaflow: a process for each step, whose attributes are kept.

python flow.py run --units 64
python flow.py resume             after a failure, from the step that failed
"""

from __future__ import annotations

from pathlib import Path

from metaflow import FlowSpec, Parameter, step

from benchmarks.peers import job


class HousingFlow(FlowSpec):
    units = Parameter("units", default=job.UNITS)
    epochs = Parameter("epochs", default=job.EPOCHS)
    folder = Parameter("folder", default="products")

    @step
    def start(self):
        Path(self.folder).mkdir(exist_ok=True)
        self.raw = str(Path(self.folder, "raw.csv"))
        job.ingest(Path(self.raw))
        self.next(self.validate)

    @step
    def validate(self):
        self.validation, page = job.validate(Path(self.raw))
        Path(self.folder, "data-docs.html").write_text(page)
        self.next(self.cross_validate)

    @step
    def cross_validate(self):
        self.folds = job.cross_validate(Path(self.raw), self.units, self.epochs)
        self.next(self.train)

    @step
    def train(self):
        self.model, self.fitted = job.train(Path(self.raw), self.units, self.epochs)
        Path(self.folder, "model.keras").write_bytes(self.model)
        self.next(self.evaluate)

    @step
    def evaluate(self):
        job.write_files(Path(self.folder), job.evaluate(Path(self.raw), self.validation, self.folds, self.fitted))
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    HousingFlow()
