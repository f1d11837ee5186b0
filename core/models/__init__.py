"""The two-branch network, its point branch alone, and their parts."""

from core.models.spvcnn import SPVCNN
from core.models.swiftnet import SwiftNetResNet
from core.models.two_branch import TwoBranchNetwork

__all__ = ["SPVCNN", "SwiftNetResNet", "TwoBranchNetwork"]
