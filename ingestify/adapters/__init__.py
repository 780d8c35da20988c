"""The outside world behind the ports: one folder for each port, one file for each adapter."""
