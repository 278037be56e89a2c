"""Many runs on many machines: a grid of cells, each one `metaser run` of one model, run where there is room.

``sweep.yaml`` (`metaser.experiment.sweep.settings`) → the cells (`grid`) → each in a folder named by the hash of all that decides
its numbers (`cell`) → processes here, or Slurm (`executors`) → merged results, paired tests between algorithms (`merge`,
`paired`). What is done is never done again; what failed is named in the end and tried by the next `metaser sweep`.
"""
