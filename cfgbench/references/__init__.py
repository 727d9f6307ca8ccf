"""Reference sets: what generated samples are compared with.

`sets.py` has both kinds behind one interface, those of the registry and pictures on a disk. Of the latter, `source.py`
is what a user writes, `pictures.py` reads it, `fitting.py` resizes and crops, `survey.py` counts and names the content,
`features.py` keeps what encoders made of it, and `statistics_file.py` reads and writes ADM's npz.
"""
