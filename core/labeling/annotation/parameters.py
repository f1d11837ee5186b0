"""The numbers of the two preparing steps, with the paper's values as defaults."""

from dataclasses import dataclass, field

from core.label_files.meta import QUIET


@dataclass(frozen=True)
class ClustererParameters:
    """How the points that are not ground are clustered.

    Attributes:
        name: `hdbscan`, the only one; it stands in meta.json.
        min_cluster_size: smallest number of points of a cluster.
        cluster_selection_epsilon: clusters closer than this are not split (m).
    """

    name: str = "hdbscan"
    min_cluster_size: int = 5
    cluster_selection_epsilon: float = 0.5


@dataclass(frozen=True)
class WeakLabelParameters:
    """Pre-segmentation and simulated annotation (paper, section "pre-segmentation and annotation").

    Attributes, in the order of use:
        num_sweeps: earlier sweeps that join the key frame in the ground step.
        own_vehicle_box: sweep points with |x| and |y| below this in their own sensor's frame are dropped (m).
        grid_size: polar cells: step of the radius (m), step of the angle (multiples of pi).
        ps_std_th: a cell whose z has at least this standard deviation seeks ground among its lower points only (m).
        ps_min_num: a plane is sought while there are more candidates than this.
        ps_max_tries: planes sought in a cell.
        ps_dis_th: largest distance of a plane's inliers, exclusive (m).
        ransac_points, ransac_iterations: points per hypothesis (at least 3) and hypotheses per plane.
        plane_fitter: `numba` (ours) or `open3d` (its `segment_plane`).
        ps_first_try_share: the first plane's inliers must number at least this share of the starting candidates.
        ps_norm_th: ground has |n_z| above this.
        near_norm_th, near_rings, near_bins: the stricter threshold, and the cells it holds in: the first
            `near_rings` rings of these angular bins, e.g. straight behind the vehicle.
        ps_outlier_th: a plane is ground when at most this share of its cell lies off it.
        clusterer: clustering of the rest.
        small_component_sizes: clusters of fewer points are skipped: with a thing class; else with
            `small_component_class`; else.
        small_component_class: class id of buildings and the like.
        rare_class_shares: classes with at most this share of a cluster are dropped: cluster without thing class;
            one thing class, the majority; one thing class, not the majority; several thing classes.
        point_per_class: points annotated for each class of a component.
        annotate: which points get labels: `in_view` (those that a camera sees) or `all`.
        annotator: `simulated` (from dense labels) or `clicks`.
        window: frames of a scene that are pre-segmented together, by their poses; one click serves all of them.
        window_voxel: with several, a point of each such voxel is clustered, and the others with it (m).
    """

    num_sweeps: int = 5
    own_vehicle_box: float = 1.0
    grid_size: tuple[float, float] = (5.0, 0.1)
    ps_std_th: float = 0.75
    ps_min_num: int = 100
    ps_max_tries: int = 3
    ps_dis_th: float = 0.2
    ransac_points: int = 10
    ransac_iterations: int = 1000
    plane_fitter: str = "numba"
    ps_first_try_share: float = 0.5
    ps_norm_th: float = 0.75
    near_norm_th: float = 0.95
    near_rings: int = 2
    near_bins: tuple[int, ...] = (4, 5)
    ps_outlier_th: float = 0.1
    clusterer: ClustererParameters = field(default_factory=ClustererParameters)
    small_component_sizes: tuple[int, int, int] = (5, 10, 20)
    small_component_class: int = 15
    rare_class_shares: tuple[float, float, float, float] = (0.01, 0.1, 0.001, 0.001)
    point_per_class: int = 1
    annotate: str = field(default="in_view", metadata={QUIET: True})
    annotator: str = field(default="simulated", metadata={QUIET: True})
    window: int = field(default=1, metadata={QUIET: True})
    window_voxel: float = field(default=0.1, metadata={QUIET: True})


@dataclass(frozen=True)
class SuperpixelParameters:
    """SEEDS on the resized, equalised HSV image.

    Attributes:
        implementation: `numba` (ours, with the labels of OpenCV 4.11) or `opencv` (its contrib part, which is slower).
        image_size: (H, W) of the map, pixels: the size at which the network sees the image.
        num_superpixels: superpixels asked for; SEEDS gives about as many.
        num_levels: block levels.
        prior: smoothing of the shapes, 0..5.
        histogram_bins: bins per colour channel.
        double_step: iterate each block level twice.
        iterations: pixel-level iterations.
    """

    implementation: str = "numba"
    image_size: tuple[int, int] = (360, 640)
    num_superpixels: int = 1024
    num_levels: int = 5
    prior: int = 5
    histogram_bins: int = 10
    double_step: bool = True
    iterations: int = 10
