"""The questions that brokerage asks about a queue, in order; the first one that refuses it is kept."""

from panda.brokerage.criteria.base import Criterion
from panda.brokerage.criteria.locality import Locality
from panda.brokerage.criteria.occupancy import Occupancy
from panda.brokerage.criteria.resources import Resources
from panda.brokerage.criteria.status import Status
from panda.brokerage.criteria.storage import Storage
from panda.brokerage.criteria.wishes import Wishes

CRITERIA: tuple[Criterion, ...] = (Status(), Storage(), Wishes(), Resources(), Locality(), Occupancy())
