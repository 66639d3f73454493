# SPDX-License-Identifier: Apache-2.0
"""What tables and reports of every kind share: `table`, `svg`, `html` and the style `page.css`."""
