"""The two-branch network and its parts."""

from core.models.swiftnet import SwiftNetResNet
from core.models.two_branch import TwoBranchNetwork

__all__ = ["SwiftNetResNet", "TwoBranchNetwork"]
