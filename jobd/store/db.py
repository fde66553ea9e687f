"""Everything that the job service keeps in SQL: jobs, texts in `jobs/`, machines, and what administrators decided."""

from jobd.store.drafts import Drafts
from jobd.store.jobs import Jobs
from jobd.store.nodes import Nodes


class JobStore(Jobs, Drafts, Nodes):
    """Everything the job service keeps in SQL, in its own words."""
