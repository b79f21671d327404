"""A task that runs once at a time, whichever scheduler or worker starts it. For Airflow 3."""

from datetime import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(dag_id="nightly", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False):
    BashOperator(
        task_id="load",
        # exec: TERM reaches leaselock, which ends the command and gives the lock back.
        bash_command="exec leaselock run -n --max-hold 2h --note '{{ run_id }}' etl/load -- load-orders",
        env={"LEASELOCK_STORE": "s3://BUCKET/PREFIX"},
        append_env=True,
        # Busy: somebody else is at it. The task is skipped, not failed.
        skip_on_exit_code=75,
    )
    BashOperator(
        task_id="close",
        # Cleared and run again, or started by two schedulers: done once for each day.
        bash_command="exec leaselock run --once close/{{ ds }} -- close-the-day {{ ds }}",
        env={"LEASELOCK_STORE": "s3://BUCKET/PREFIX"},
        append_env=True,
    )
