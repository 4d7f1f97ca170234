"""PanDA's pilot: the agent on a node that takes jobs, runs their payloads and reports.

It stands alone: Python 3.9 or newer, the standard library, and no other folder of this tree.
`python -m pilot.build dist/pilot.pyz` packs it into the one file that sites start.
"""

__version__ = "0.1.0"
