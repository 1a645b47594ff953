"""What row changes become: the engine, and one folder of SQL per domain."""
