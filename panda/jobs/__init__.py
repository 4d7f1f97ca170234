"""The job queue (PanDA's task buffer): every change of a job goes through here."""
