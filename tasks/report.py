from __future__ import annotations
from prefect import task
from prefect.cache_policies import NO_CACHE
from tasks.manifest import close_run

@task(name="report", cache_policy=NO_CACHE)
def report(run, examples, validated, prepared, folds, fitted, evaluated):
    records={"ingest":examples,"validate":validated,"prepare":prepared,**{f"fold-{i}":f for i,f in enumerate(folds,1)},"fit":fitted,"evaluate":evaluated}
    page = run.open_store().put_bytes(f"{run.prefix}/report.html", b"x", kind="html")
    f=evaluated.facts
    return close_run(run, records, outcome="accepted" if f["accepted"] else "acceptance failed", reason=f["reason"], register=f["accepted"], promote=f["promote"], metrics=f["metrics"], pages={"report.html": page})
