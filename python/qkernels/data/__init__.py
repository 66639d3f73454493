# SPDX-License-Identifier: Apache-2.0
"""Data that ships with the package: a small trained network and the images to judge it by.

Sources and licences are in the file NOTICE beside this one.
"""
