from metaser.experiment import Run


def run(run: Run) -> None:
    run.carry_out(render)


def render(finished, paper):
    (finished.folder / "table.md").write_text(
        str(finished.summary[finished.summary.metric.isin(["accuracy", "loss"])].to_string())
    )
