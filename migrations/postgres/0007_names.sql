-- The index had names of paths and the like among what is searched without texts: it is made again.
INSERT INTO reindexing (gateway, reached) SELECT DISTINCT gateway, '' FROM indexed WHERE 1 = 1
ON CONFLICT (gateway) DO UPDATE SET reached = '';
