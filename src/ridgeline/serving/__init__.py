"""Requests played over a step-time surface: arrivals, schedulers, the event loop, and what comes out."""
