"""Settle daily leaderboards: see dags/leaderboards.py. (A DAG file, for airflow to find.)"""

from leaderboards import leaderboards

dag = leaderboards("daily")
