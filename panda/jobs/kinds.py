"""The kind of jobs (analysis, production, …), which their job set says."""

#: Of a job set `s`. One that a release before 0015 accepted has it in its document alone.
KIND = "coalesce(s.kind, s.document->>'kind', 'analysis')"
