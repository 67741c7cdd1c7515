"""LeRobot imports this module because of its distribution's name; importing it registers costep.

It stays almost empty: an error raised here is swallowed by LeRobot, and shows only as "invalid
choice: costep" much later.  ``costep doctor`` imports it and shows the error.
"""

import costep.plugin.configuration_costep
import costep.plugin.environment_costep  # noqa: F401
