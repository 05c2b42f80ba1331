"""Models of classes behind one small interface: `table` names them, `check` holds their laws."""
