# SPDX-License-Identifier: Apache-2.0
"""Bridges to other libraries, each in a module that imports its library only when it is there."""
