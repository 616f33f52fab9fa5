"""Ray and torch: the student's training and evaluation on the files that the flows wrote.

The flows use two modules of this package: `trainer.job` (the records that describe a run) and `trainer.run`.
"""
