"""Is there a bundle for the handout that the settings name? Light enough to be asked before every start."""

from calsvc.handout.form import check_handout, fingerprint
from calsvc.http.errors import BundleError
from calsvc.model.bundle import load_bundle
from calsvc.settings import Settings


def bundle_is_current(settings: Settings) -> bool:
    """Tell whether the bundle loads and was made from the handout as it is now.

    Raises:
        HandoutError: there is no usable handout to compare with.
    """
    check_handout(settings.handout_dir)
    try:
        bundle = load_bundle(settings.bundle_path)
    except BundleError:
        return False
    return bundle.manifest.handout_sha256 == fingerprint(settings.handout_dir)
