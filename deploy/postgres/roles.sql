-- One login per process, once per PostgreSQL cluster, as a superuser. Set their passwords outside of this file.
DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['countersign_router', 'countersign_executor', 'countersign_sampler', 'countersign_operator',
    'countersign_recorder', 'countersign_eraser'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', name);
    END IF;
  END LOOP;
END $$;
